-- The rule of plugins/static-site: the query sorted, without what only counts visitors, and the
-- class of the device in the key.
local TRACKING = { gclid = true, fbclid = true, msclkid = true, mc_cid = true, mc_eid = true }
local function device(agent, hint)
  agent = agent:lower()
  if agent:find("bot", 1, true) or agent:find("crawl", 1, true) or agent:find("spider", 1, true)
      or agent:find("slurp", 1, true) then
    return "bot"
  end
  local mobile = agent:find("mobi", 1, true) or agent:find("iphone", 1, true) or agent:find("ipod", 1, true)
  if agent:find("ipad", 1, true) or agent:find("tablet", 1, true) or agent:find("kindle", 1, true)
      or agent:find("silk", 1, true) or (agent:find("android", 1, true) and not mobile) then
    return "tablet"
  end
  if hint == "?1" or mobile then
    return "mobile"
  end
  return "desktop"
end
function do_remap()
  local kept = {}
  for part in (ts.client_request.get_uri_args() or ""):gmatch("[^&]+") do
    local name = part:match("^[^=]*")
    if not TRACKING[name] and name:sub(1, 4) ~= "utm_" then
      kept[#kept + 1] = part
    end
  end
  table.sort(kept)
  local query = table.concat(kept, "&")
  ts.client_request.set_uri_args(query)
  local header = ts.client_request.header
  local class = device(header["User-Agent"] or "", header["Sec-CH-UA-Mobile"])
  ts.http.set_cache_url("http://" .. header["Host"] .. ts.client_request.get_uri() .. "?" .. query .. "&device=" .. class)
  return 0
end
