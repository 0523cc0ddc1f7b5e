-- Add counts to those of the whole deployment. KEYS: the counts. ARGV: for each count its field, and a number to add.
-- A new field is dropped once there are MAX_FIELDS.
if redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' then redis.call('DEL', KEYS[1]) end
local fields = redis.call('HLEN', KEYS[1])
for place = 1, #ARGV, 2 do
  local known = redis.call('HEXISTS', KEYS[1], ARGV[place]) == 1
  if known or fields < MAX_FIELDS then
    redis.call('HINCRBY', KEYS[1], ARGV[place], ARGV[place + 1])
    if not known then fields = fields + 1 end
  end
end
