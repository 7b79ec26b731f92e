-- The generic cell rate algorithm. The key holds the theoretical arrival time (TAT) of
-- the next request if all came evenly. Times are in microseconds of Redis's own clock,
-- the one clock that all nodes share.
local limit, interval = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local burst = interval * limit
local tat = math.max(tonumber(redis.call('GET', KEYS[1])) or now, now)
-- A clock that was set back must not shut a client out for longer than a window.
tat = math.min(tat, now + burst)
local next_tat = tat + interval
if next_tat - now > burst then
  return { 0, 0, string.format('%.0f', next_tat - now - burst) }
end
redis.call('SET', KEYS[1], string.format('%.0f', next_tat), 'PX', math.ceil((next_tat - now) / 1000))
return { 1, math.floor((burst - (next_tat - now)) / interval), '0' }
