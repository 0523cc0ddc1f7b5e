-- Read whole keys, as RESP2 gives their content.

local readers = {
  string = function(key) return {redis.call('GET', key)} end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  hash = function(key) return redis.call('HGETALL', key) end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Return name, type, the Unix time in ms at which the key expires (-1 for never) and content; nil for a key that is gone.
local function read_key(key)
  local kind = redis.call('TYPE', key)['ok']
  local ttl = redis.call('PTTL', key)
  if not readers[kind] or ttl == -2 then return nil end
  return {key, kind, ttl < 0 and -1 or now + ttl, readers[kind](key)}
end

-- Add what is stored under the names to `records`, each name once.
local function read_keys(names, records, seen)
  for _, key in ipairs(names) do
    if not seen[key] then
      seen[key] = true
      records[#records + 1] = read_key(key)
    end
  end
end
