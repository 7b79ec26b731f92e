-- Shortens the time to live of every key to ARGV[1] milliseconds.
local shortened = 0
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) > tonumber(ARGV[1]) then
    redis.call('PEXPIRE', key, ARGV[1])
    shortened = shortened + 1
  end
end
return shortened
