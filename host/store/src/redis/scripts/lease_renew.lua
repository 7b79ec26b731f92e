-- Gives the lease another ARGV[2] milliseconds, if ARGV[1] still holds it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
