-- Count an owner's waiting jobs. ARGV: owner, queues ...
-- include backlog.lua
local sum = 0
for place = 2, #ARGV do sum = sum + count_waiting(ARGV[place], ARGV[1]) end
return sum
