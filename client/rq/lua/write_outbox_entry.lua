-- Write the outbox entry of a job that is on its queue already.
-- KEYS: entry, pending, endpoints of the owner. ARGV: job, URL or '', entry as JSON, now in Unix seconds.
-- include outbox.lua
return write_outbox_entry(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
