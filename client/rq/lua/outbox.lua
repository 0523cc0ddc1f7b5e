-- Write an outbox entry, if the job has a URL or its owner an endpoint. `entry` and `pending` are keys, `text` is JSON.
local function write_outbox_entry(entry, pending, endpoints, job, url, text, now)
  if url == '' and redis.call('EXISTS', endpoints) == 0 then return 0 end
  if url == '' then
    redis.call('HSETNX', entry, 'intent', text)
  else
    redis.call('HSET', entry, 'intent', text, 'url:' .. url, 1)
  end
  redis.call('ZADD', pending, 'NX', now, job)
  return 1
end
