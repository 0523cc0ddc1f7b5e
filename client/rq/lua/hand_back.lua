-- Put a job that an execution holds at the front of its list; end it if it was cancelled.
-- ARGV: queue, job, execution, now, now in Unix seconds.
-- Returns 1 when it is on the list, 2 when it has ended, 0 when the execution does not hold the job any more.
-- include transitions.lua
if not end_execution(ARGV[1], ARGV[2], ARGV[3]) then return 0 end
if is_cancelled(ARGV[2]) then
  end_cancelled(ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5]))
  return 2
end
requeue(ARGV[1], ARGV[2], ARGV[4])
return 1
