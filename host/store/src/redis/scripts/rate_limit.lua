-- A sliding window over all nodes: in no stretch of ARGV[2] microseconds are more than
-- ARGV[1] admitted. Times are of Redis's own clock, the one that all nodes share.
--
-- The value reads 'NODE,NODE|FIRST:LAST:COUNT;…': the nodes that have counted here, and what
-- was admitted, the oldest first. Those close together are one span, which counts until the
-- last of them is a window old.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
-- This node; what it admitted alone and has not told, and how long ago the last of it was;
-- the same of all that it admitted.
local node = ARGV[3]
local untold, untold_ago = tonumber(ARGV[4]), tonumber(ARGV[5])
local all, all_ago = tonumber(ARGV[6]), tonumber(ARGV[7])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local value = redis.call('GET', KEYS[1]) or '|'
local nodes, rest = value:match('^([^|]*)|(.*)$')
nodes, rest = nodes or '', rest or ''

local spans, used = {}, 0
for first, last, count in rest:gmatch('(%d+):(%d+):(%d+)') do
  -- A clock that was set back must not shut a client out for longer than a window.
  first, last, count = math.min(tonumber(first), now), math.min(tonumber(last), now), tonumber(count)
  if now - last < window then
    spans[#spans + 1] = { first, last, count }
    used = used + count
  end
end

local function add(at, count)
  local newest = spans[#spans]
  if newest then at = math.max(at, newest[2]) end
  if newest and at - newest[1] < window / 32 then
    newest[2], newest[3] = at, newest[3] + count
  else
    spans[#spans + 1] = { at, at, count }
  end
  used = used + count
end

-- A node that is not known here counted in a Redis that lost it, or never: all that it
-- admitted is news. From one that is known, only what it admitted while Redis was away.
local known = (',' .. nodes .. ','):find(',' .. node .. ',', 1, true)
if not known then
  untold, untold_ago = all, all_ago
  nodes = nodes == '' and node or nodes .. ',' .. node
end
local news = untold > 0 and untold_ago < window
if news then add(now - untold_ago, untold) end

local allowed = used < limit
if allowed then add(now, 1) end

-- Nothing is written for a request that is refused, unless it brought news.
if allowed or news then
  local lines = {}
  for at, span in ipairs(spans) do
    lines[at] = string.format('%.0f:%.0f:%.0f', span[1], span[2], span[3])
  end
  local left = math.ceil((spans[#spans][2] + window - now) / 1000)
  redis.call('SET', KEYS[1], nodes .. '|' .. table.concat(lines, ';'), 'PX', left)
end
if allowed then return { 1, limit - used, '0' } end
return { 0, 0, string.format('%.0f', spans[1][2] + window - now) }
