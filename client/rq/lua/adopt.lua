-- Give a slot to each job at the end of a list that has none, as a job has that RQ itself enqueued.
-- ARGV: queue. Returns how many.
-- include fair_queue.lua
return adopt(ARGV[1])
