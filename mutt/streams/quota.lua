-- quota: counts the events of requests that are there together, as mutt/quota.py has it: by the second, and a second
-- leaves the window with its youngest event. Each key is read once, each request is judged by itself, in its order.
local o = cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second + tonumber(time[2]) / 1000000

local function judge(name, quota, asks)
  local standing, gone, sum = {}, {}, 0
  local found = redis.call('HGETALL', name)
  for i = 1, #found, 2 do
    local at, n = tonumber(found[i]), tonumber(found[i + 1])
    -- One far ahead was counted by another clock, or before this one was set back: it would stand for as long.
    if at < second - o.window or at > second + o.window then
      gone[#gone + 1] = found[i]
    else
      standing[#standing + 1], sum = {at, n}, sum + n
    end
  end
  standing[#standing + 1] = {second, 0}
  table.sort(standing, function(a, b) return a[1] < b[1] end)
  local waits, granted = {}, 0
  for i, n in ipairs(asks) do
    local too_many, wait = sum + n - quota, 0
    for _, one in ipairs(standing) do
      if too_many <= 0 then break end
      too_many, wait = too_many - one[2], math.ceil(one[1] + o.window + 1 - now)
    end
    if wait == 0 then
      granted, sum = granted + n, sum + n
      standing[#standing + 1] = {second, n}
    end
    waits[i] = wait
  end
  if granted > 0 then
    redis.call('HINCRBY', name, second, granted)
    redis.call('PEXPIRE', name, (o.window + 1) * 1000)
  end
  if #gone > 0 then redis.call('HDEL', name, unpack(gone)) end
  return waits
end

-- What was granted and not accepted after all.
for _, back in ipairs(o.back) do
  local name, at, n = unpack(back)
  if redis.call('HEXISTS', name, at) == 1 and redis.call('HINCRBY', name, at, -n) <= 0 then
    redis.call('HDEL', name, at)
  end
end

local told = {}
for i, key in ipairs(o.keys) do told[i] = judge(unpack(key)) end
return {second, told}
