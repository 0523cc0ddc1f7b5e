-- Give a slot to each job without one at the end of a list: RQ itself enqueues jobs without a slot.
-- ARGV: queue. Returns how many.
-- include fair_queue.lua
return adopt(ARGV[1])
