-- Write an endpoint. KEYS: endpoint, ids of the owner's endpoints, ids of all endpoints.
-- ARGV: id, record, the largest number of the owner's endpoints for a new endpoint ('' to replace an endpoint).
-- Returns 1 if written, 0 if the owner has that many endpoints already, or the endpoint to replace was deleted.
if ARGV[3] == '' then
  if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
elseif redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
