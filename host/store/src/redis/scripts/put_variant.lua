-- Stores one variant, and puts its field names first in the index of its key.
-- The index reads 'WVI1' and then lines of field names joined by ','.
local index, variant = KEYS[1], KEYS[2]
local fields, record, ttl, cap = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local lines, longest = { fields }, ttl
if redis.call('GETRANGE', index, 0, 4) == 'WVI1\n' then
  longest = math.max(longest, redis.call('PTTL', index))
  local text = redis.call('GET', index)
  for line in text:sub(6):gmatch('[^\n]+') do
    if line ~= fields and #lines < cap then lines[#lines + 1] = line end
  end
end
redis.call('SET', index, 'WVI1\n' .. table.concat(lines, '\n'), 'PX', longest)
redis.call('SET', variant, record, 'PX', ttl)
return 1
