-- A node tells of itself in a hash of nodes, and takes out those that have not for too
-- long; returns the names of all that are left. Values are JSON objects that begin with
-- "until", in milliseconds of Redis's own clock, the one that all nodes share. The key
-- itself ends with its last field.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[3])
local fields = redis.call('HGETALL', KEYS[1])
for at = 1, #fields, 2 do
  local ends = tonumber(string.match(fields[at + 1], '^{"until":(%d+)'))
  if not ends or ends <= now then
    redis.call('HDEL', KEYS[1], fields[at])
  end
end
local value = string.format('{"until":%.0f,', now + ttl) .. string.sub(ARGV[2], 2)
redis.call('HSET', KEYS[1], ARGV[1], value)
if redis.call('PTTL', KEYS[1]) < ttl then
  redis.call('PEXPIRE', KEYS[1], ttl)
end
return redis.call('HKEYS', KEYS[1])
