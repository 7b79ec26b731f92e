-- Stores ARGV[3] if the key holds ARGV[2], or, where ARGV[1] is '0', if it is absent.
local held = redis.call('EXISTS', KEYS[1]) == 1
local expects_value = ARGV[1] == '1'
if held ~= expects_value then return 0 end
if held and redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
