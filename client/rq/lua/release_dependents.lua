-- Release the jobs that waited for a job whose end a stock worker wrote.
-- ARGV: job, time as RQ writes it. Returns how many came to their queue.
-- include dependencies.lua
return release_dependents(ARGV[1], ARGV[2])
