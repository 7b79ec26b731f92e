-- Tells a node what is newer than it, in pages. Begins a new epoch if there is no log,
-- if the log lost the last entry that the node has of it (a failover), or went back to an
-- older one.
local state, counters, prefixes, soft_at, floors, stream, points = unpack(KEYS)
local chance, have_epoch, entry_id, entry_nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local since, limit, nonce, stream_cap = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]

local found = redis.call('HMGET', state, 'epoch', 'sequence', 'last', 'nonce')
local epoch, sequence = found[1], tonumber(found[2] or 0)

local function lost()
  if entry_id == '' then return false end
  local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
  if not entry then return true end
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'n' then return fields[i + 1] ~= entry_nonce end
  end
  return true
end

-- As decimal numbers, which are too long for Lua's own.
local function older(one, other)
  if #one ~= #other then return #one < #other end
  return one < other
end

if epoch ~= have_epoch then since = 0 end
if not epoch or (epoch == have_epoch and lost()) or older(epoch, have_epoch) then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local known = tonumber(have_epoch:sub(1, -7)) or 0
  epoch, sequence, since = string.format('%.0f', math.max(now, known + 1)) .. chance, 0, 0
  redis.call('UNLINK', counters, prefixes, soft_at, floors, points)
  -- The entry wakes the other nodes, which find that the epoch is not theirs.
  local entry = redis.call('XADD', stream, 'MAXLEN', '~', stream_cap, '*',
    'e', epoch, 's', 0, 'i', '', 'n', nonce, 't', 0, 'p', '[]')
  redis.call('HSET', state, 'epoch', epoch, 'sequence', 0, 'last', entry, 'nonce', nonce)
  found = { epoch, '0', entry, nonce }
end

local raised = {}
local function collect(page)
  for i = 1, #page, 2 do
    local member = page[i]
    raised[#raised + 1] = member
    raised[#raised + 1] = page[i + 1]
    raised[#raised + 1] = member:sub(1, 1) == 's' and redis.call('HGET', soft_at, member) or '0'
  end
end

local from = '(' .. string.format('%.0f', since)
local page = redis.call('ZRANGEBYSCORE', counters, from, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
collect(page)
collect(redis.call('ZRANGEBYSCORE', prefixes, from, '+inf', 'WITHSCORES'))
local next_page = ''
if #page >= 2 * limit then
  -- Others of the same sequence may follow: begin with that one again.
  local last = tonumber(page[#page])
  next_page = string.format('%.0f', math.max(last - 1, since + 1))
end
return { epoch, string.format('%.0f', sequence), found[3] or '', found[4] or '0', next_page, raised,
  redis.call('ZRANGEBYSCORE', floors, from, '+inf', 'WITHSCORES') }
