-- Takes one purge into the log, once for each id. All keys share a hash tag.
local state, counters, prefixes, soft_at, floors, stream, points, done = unpack(KEYS)
local chance, id, nonce, at, selectors = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local done_ttl, stream_cap = ARGV[6], ARGV[9]
local counter_cap, prefix_cap, life = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[10])
local FIRST_MEMBER = 11

local epoch = redis.call('HGET', state, 'epoch')
local before = redis.call('HMGET', done, 'epoch', 'sequence', 'entry', 'earlier', 'previous', 'nonce')
if epoch and before[1] == epoch then
  return before
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not epoch then
  -- Epochs grow with time, so that a Redis which went back to an old one is found out.
  epoch = string.format('%.0f', now) .. chance
  redis.call('UNLINK', counters, prefixes, soft_at, floors, points)
  redis.call('HSET', state, 'epoch', epoch)
end
local sequence = redis.call('HINCRBY', state, 'sequence', 1)
-- By which nodes see that an entry follows on what they know.
local previous = redis.call('HGET', state, 'nonce') or '0'

-- A member reads 'h:HASH NAME' or 's:HASH NAME'; a prefix has 'p' as its name's letter,
-- and the hash of what stands in for it. The highest ten bits of a hash are its bucket.
local function bucket(member)
  return math.floor(tonumber(member:sub(3, 5), 16) / 4)
end

local earlier = 0
local function seen(score)
  earlier = math.max(earlier, tonumber(score) or 0)
end

for i = FIRST_MEMBER, #ARGV do
  local member = ARGV[i]
  local set = counters
  if member:sub(20, 20) == 'p' then set = prefixes end
  seen(redis.call('ZSCORE', set, 'h' .. member:sub(2)) or 0)
  seen(redis.call('ZSCORE', set, 's' .. member:sub(2)) or 0)
  seen(redis.call('ZSCORE', floors, bucket(member)) or 0)
end
for i = FIRST_MEMBER, #ARGV do
  local member = ARGV[i]
  local set = counters
  if member:sub(20, 20) == 'p' then set = prefixes end
  redis.call('ZADD', set, sequence, member)
  if member:sub(1, 1) == 's' then
    redis.call('HSET', soft_at, member, at)
  end
end

-- What was purged longer ago than an object can live is forgotten freely; what was
-- purged later leaves a floor, so that old objects die rather than return.
local newest = redis.call('ZREVRANGE', points, 0, 0, 'WITHSCORES')
if not newest[1] or now - newest[2] >= life / 32 then
  redis.call('ZADD', points, now, sequence)
  redis.call('ZREMRANGEBYRANK', points, 0, -65)
end

local function oldest(set, cap)
  local over = redis.call('ZCARD', set) - cap
  if over <= 0 then return {} end
  return redis.call('ZPOPMIN', set, over)
end

local horizon
local function forget(set, cap, instead)
  local popped = oldest(set, cap)
  for i = 1, #popped, 2 do
    local member, score = popped[i], tonumber(popped[i + 1])
    redis.call('HDEL', soft_at, member)
    if not horizon then
      local past = redis.call('ZREVRANGEBYSCORE', points, now - life - 600000, '-inf', 'LIMIT', 0, 1)
      horizon = tonumber(past[1]) or 0
    end
    if score > horizon then instead(member, score) end
  end
end

forget(prefixes, prefix_cap, function(member, score)
  redis.call('ZADD', counters, 'GT', score, 'h:' .. member:sub(3, 18) .. ' *')
end)
forget(counters, counter_cap, function(member, score)
  redis.call('ZADD', floors, 'GT', score, bucket(member))
end)

local entry = redis.call('XADD', stream, 'MAXLEN', '~', stream_cap, '*',
  'e', epoch, 's', sequence, 'i', id, 'n', nonce, 'b', previous, 't', at, 'p', selectors)
redis.call('HSET', state, 'last', entry, 'nonce', nonce)
redis.call('HSET', done, 'epoch', epoch, 'sequence', sequence, 'entry', entry, 'earlier', earlier,
  'previous', previous, 'nonce', nonce)
redis.call('PEXPIRE', done, done_ttl)
return { epoch, tostring(sequence), entry, tostring(earlier), previous, nonce }
