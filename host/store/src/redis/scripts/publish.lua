-- One document takes the place of another, if its revision is higher; otherwise returns the
-- one that stands there. Values of the hash are "REVISION TEXT". The contents that the new
-- one needs are kept for good, others end by themselves.
local stands = redis.call('HGET', KEYS[1], ARGV[1])
if stands then
  local revision = tonumber(string.match(stands, '^(%d+) '))
  if revision and revision >= tonumber(ARGV[2]) then
    return stands
  end
end
for at = 3, #KEYS do
  if string.sub(ARGV[at + 2], 1, 1) == 'k' then
    redis.call('PERSIST', KEYS[at])
  else
    redis.call('PEXPIRE', KEYS[at], ARGV[4])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
-- Whoever polls this sees that something has changed.
redis.call('SET', KEYS[2], ARGV[#ARGV])
return false
