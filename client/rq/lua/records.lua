-- Reading records that anybody who can write to Valkey may have written.

-- Return a field of a job; '' where the field is missing, or where the record is not a hash.
local function field(job, name)
  local value = redis.pcall('HGET', JOB .. job, name)
  return type(value) == 'string' and value or ''
end

-- Delete a key that holds the wrong type: a command on it would end the script half way.
local function delete_wrong_type(key, kind)
  local actual = redis.call('TYPE', key)['ok']
  if actual ~= kind and actual ~= 'none' then redis.call('DEL', key) end
end
