-- Clears of what Moog never heard of: neither they nor what they end is sent.
local TRIES = 'mutt:alerts:tries'
-- So many that stand behind one signature are searched for a raise that needs not be sent.
local MOST_SEARCHED = 100

local function find_behind(e)
  local key = 'mutt:behind:' .. e.sig
  if redis.call('LLEN', key) > MOST_SEARCHED then return nil end
  for _, packed in ipairs(redis.call('LRANGE', key, 0, -1)) do
    if string.find(packed, e.id, 1, true) then
      local ok, alert = pcall(cmsgpack.unpack, packed)
      if ok and type(alert) == 'table' and alert.id == e.id then return packed, alert end
    end
  end
end

local function is_swept(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'swept' then return true end
  end
  return false
end

-- Raises that stood nowhere when the clear came that ends them.
local unsure = {}

-- Can Moog have heard of this raise? It can't if it is held, stands behind another, or stands in a lane and was never
-- taken. Of one that stands nowhere, or was brought in by the sweep, nobody can tell: Redis may have lost its end.
local function may_be_known(e)
  if unsure[e.id] then return true end
  local stands = redis.call('HGET', STANDING, e.id)
  if not stands then return redis.call('GET', 'mutt:alerts:done:' .. e.id) ~= 'held' end
  if stands == 'held' then return false end
  if redis.call('HEXISTS', TRIES, e.id) == 1 then return true end
  if stands == 'behind' then
    local _, alert = find_behind(e)
    return not alert or is_swept(alert.fields)
  end
  local lane, entry = string.match(stands, '^(%a+) (%S+)$')
  if not lane or redis.call('HGET', HOLDERS, e.sig) ~= e.id then return true end
  local found = redis.call('XRANGE', LANE .. lane, entry, entry)[1]
  if not found or is_swept(found[2]) then return true end
  return redis.pcall('XPENDING', LANE .. lane, 'mutt', entry, entry, 1)[1] ~= nil
end

local function withdraw(e, f)
  local stands = redis.call('HGET', STANDING, e.id)
  if not stands or stands == 'held' then return end
  local lane, entry = string.match(stands, '^(%a+) (%S+)$')
  if lane then
    redis.call('XDEL', LANE .. lane, entry)
    leave(e.sig, e.id)
  else
    local packed, alert = find_behind(e)
    redis.call('LREM', 'mutt:behind:' .. e.sig, 1, packed)
    redis.call('HINCRBY', BEHIND, alert.lane, -1)
    if string.match(redis.call('HGET', LIFTED, e.sig) or '', '%S+$') == e.id then
      redis.call('HDEL', LIFTED, e.sig)
    end
  end
  hold(e, 'cleared')
  -- Of its own signature whoever judges the clear remembers.
  if e.sig ~= f.sig then take_back(e.sig, e.id) end
end

-- Was the last that Moog was told of this signature a raise that this clear does not end? Then that one's own clear
-- was held, or it is another one's: what Moog shows has to end all the same.
local function shows_another(s, f)
  if not s or s.told ~= 'raise' then return false end
  for _, e in ipairs(f.ends) do
    if e.id == s.told_id then return false end
  end
  return true
end

-- A clear ends these raises; if Moog knows none of them, neither they nor the clear are sent.
local function is_needless(s, f)
  if not f.ends or shows_another(s, f) then return false end
  for _, e in ipairs(f.ends) do
    if may_be_known(e) then return false end
  end
  for _, e in ipairs(f.ends) do withdraw(e, f) end
  return true
end
