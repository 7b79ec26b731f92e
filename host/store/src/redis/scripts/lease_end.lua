-- Ends the lease that ARGV[1] holds: leaves the news ARGV[2] for ARGV[3] milliseconds, or,
-- where it is empty, nothing.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
