-- Give an idempotent request its id. KEYS: its entry. ARGV: fingerprint, seconds to keep the entry, a new id.
-- Returns the id of the entry, and 1 if the entry has this fingerprint, else 0.
local known = redis.call('GET', KEYS[1])
if known then
  local id, fingerprint = string.match(known, '^(.*) (.*)$')
  return {id, fingerprint == ARGV[1] and 1 or 0}
end
redis.call('SET', KEYS[1], ARGV[3] .. ' ' .. ARGV[1], 'EX', ARGV[2])
return {ARGV[3], 1}
