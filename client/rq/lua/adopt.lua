-- Give a slot to each job that came to the end of a list in another way. ARGV: queue. Returns how many.
-- include fair_queue.lua
return adopt(ARGV[1])
