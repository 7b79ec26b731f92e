-- Adds to a counter. Its time to live begins when it is made, in the same step.
local made = redis.call('EXISTS', KEYS[1]) == 0
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
if made then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
-- As text: a number of Lua's would lose digits beyond 2^53.
return redis.call('GET', KEYS[1])
