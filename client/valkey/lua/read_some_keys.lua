-- Return the keys of ARGV that exist.
-- include read_keys.lua
local records = {}
read_keys(ARGV, records, {})
return records
