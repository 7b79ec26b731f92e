-- Adds a member to a set, and renews the set's time to live.
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0
  and redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return redis.error_reply('FULL the set has as many members as one may have')
end
local added = redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return added
