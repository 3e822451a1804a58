-- Noise control: which alerts are kept from Moog though a rule wants it to know. rules/noise.py is the same as a model.
-- Times are those of the events, in microseconds: a backlog is judged as live traffic would have been. What is
-- remembered goes after `keep_ms` without a word; where there is no room to remember, alerts are sent.
local SIGNATURE, STORM = 'mutt:noise:of:', 'mutt:storm:'
local KEPT, DUE, TRIES = 'mutt:noise:kept', 'mutt:noise:due', 'mutt:alerts:tries'
-- So many signatures and storms are remembered; so many members of a storm are told apart. So many that stand behind
-- one signature are searched for a raise that needs not be sent.
local MOST_KEPT, MOST_MEMBERS, MOST_SEARCHED = 200000, 200, 100

local clock

-- Redis' clock in milliseconds, for what people wait for.
local function now_ms()
  if not clock then
    local time = redis.call('TIME')
    clock = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return clock
end

local function may_keep(key, ms)
  redis.call('ZREMRANGEBYSCORE', KEPT, '-inf', now_ms())
  if not redis.call('ZSCORE', KEPT, key) and redis.call('ZCARD', KEPT) >= MOST_KEPT then return false end
  redis.call('ZADD', KEPT, now_ms() + ms, key)
  return true
end

-- ---- one signature

local function insert(log, at)
  local i = #log
  while i > 0 and log[i] > at do i = i - 1 end
  table.insert(log, i + 1, at)
end

-- Those after a time, of the newest so many.
local function newer(log, than, most)
  local kept = {}
  for i = math.max(1, #log - most + 1), #log do
    if log[i] > than then kept[#kept + 1] = log[i] end
  end
  return kept
end

local function reaches(s, at, count, window)
  insert(s.log, at)
  s.log = newer(s.log, s.log[#s.log] - window, count)
  if #s.log < count then return false end
  s.log = {}
  return true
end

local function flaps(s, state, at, count, window)
  if s.flapping and at - s.changed >= window then s.flapping, s.changes = false, {} end
  if s.last and s.last ~= state then
    insert(s.changes, at)
    s.changed = s.changes[#s.changes]
    s.changes = newer(s.changes, s.changed - window, count + 1)
    s.flapping = s.flapping or #s.changes > count
  end
  s.last = state
  return s.flapping
end

-- Why the rule's own bounds hold it, or nil.
local function judge(s, f)
  local l, at = f.noise, f.noise.at
  if f.clear then
    if s.since and at >= s.since then s.since = nil end
    s.cleared = math.max(s.cleared or 0, at)
  else
    if l.threshold and not reaches(s, at, l.threshold[1], l.threshold[2]) then return 'threshold' end
    if l.dedup and s.since and at < s.since + l.dedup then return 'dedup' end
  end
  if l.flap and flaps(s, f.clear and 'clear' or 'raise', at, l.flap[1], l.flap[2]) then return 'flapping' end
end

-- It goes to Moog: what was held before goes with it as a number, its repeats don't go.
local function let_through(s, f)
  local at = f.noise.at
  if f.noise.dedup and not f.clear and at >= (s.cleared or 0) then s.since = at end
  s.told, s.pending = f.clear and 'clear' or 'raise', nil
end

local function note_held(s, f, reason)
  local l, at = f.noise, f.noise.at
  if not f.clear then
    s.held = s.held + 1
    s.from = math.min(s.from or at, at)
  end
  if reason == 'flapping' then
    -- When it rests, Moog is told of the last one.
    s.pending, s.rest = f.id, l.flap[2]
    redis.call('ZADD', DUE, math.floor((s.changed + l.flap[2]) / 1000), 'flap:' .. f.sig)
  end
end

local function recall(f)
  local ms = f.noise and f.noise.keep_ms
  if not ms or not may_keep(SIGNATURE .. f.sig, ms) then return nil end
  local packed = redis.call('GET', SIGNATURE .. f.sig)
  local ok, s = pcall(cmsgpack.unpack, packed or '')
  if not packed or not ok or type(s) ~= 'table' then s = {} end
  s.log, s.changes, s.held = s.log or {}, s.changes or {}, s.held or 0
  return s
end

local function remember(s, f)
  redis.call('SET', SIGNATURE .. f.sig, cmsgpack.pack(s), 'PX', f.noise.keep_ms)
end

-- ---- storms

-- A storm's own record, of which its summaries are made; the first of its members makes it due at once.
local function add_to_storm(f, p)
  local key, at, m = STORM .. p.key, f.noise.at, f.noise.member
  local was = redis.call('HMGET', key, 'first', 'last', 'worst')
  redis.call('HINCRBY', key, 'count', 1)
  redis.call('HSET', key, 'first', math.min(tonumber(was[1] or at), at), 'last', math.max(tonumber(was[2] or at), at),
             'worst', math.max(tonumber(was[3] or m.severity), m.severity), 'touched', now_ms())
  if not was[1] then
    redis.call('HSET', key, 'begun', at, 'policy', p.id, 'name', p.name, 'by', p.by, 'value', p.value, 'team', m.team,
               'window_ms', p.window / 1000)
    redis.call('ZADD', DUE, now_ms(), 'storm:' .. p.key)
  end
  local members = key .. ':members'
  local known = redis.call('HEXISTS', members, m.who) == 1 or redis.call('HLEN', members) < MOST_MEMBERS
  redis.call('HINCRBY', members, known and m.who or '', 1)
  redis.call('PEXPIRE', key, p.storm_ms)
  redis.call('PEXPIRE', members, p.storm_ms)
end

-- A list of the last `count` times: if all are within the window, this one is too many.
local function storm_of(f)
  local at, found = f.noise.at, nil
  for _, p in ipairs(f.noise.storms or {}) do
    local log = STORM .. p.key .. ':log'
    if may_keep(log, p.keep_ms) then
      local oldest = tonumber(redis.call('LINDEX', log, p.count - 1) or '')
      redis.call('LPUSH', log, at)
      redis.call('LTRIM', log, 0, p.count - 1)
      redis.call('PEXPIRE', log, p.keep_ms)
      if oldest and oldest > at - p.window and not found then found = p end
    end
  end
  if not found then return nil end
  add_to_storm(f, found)
  return 'storm:' .. found.id
end

-- ---- clears of what Moog never heard of

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

-- Can Moog have heard of this raise? It can't if it is held, stands behind another, or stands in a lane and was never
-- taken. Of one that stands nowhere nobody can tell.
local function may_be_known(e)
  local stands = redis.call('HGET', STANDING, e.id)
  if not stands then return redis.call('GET', 'mutt:alerts:done:' .. e.id) ~= 'held' end
  if stands == 'held' then return false end
  if redis.call('HEXISTS', TRIES, e.id) == 1 then return true end
  if stands == 'behind' then return find_behind(e) == nil end
  local lane, entry = string.match(stands, '^(%a+) (%S+)$')
  if not lane or redis.call('HGET', HOLDERS, e.sig) ~= e.id then return true end
  return redis.pcall('XPENDING', LANE .. lane, 'mutt', entry, entry, 1)[1] ~= nil
end

local function withdraw(e)
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
end

-- A clear ends these raises; if Moog knows none of them, neither they nor the clear are sent.
local function is_needless(f)
  if not f.ends then return false end
  for _, e in ipairs(f.ends) do
    if may_be_known(e) then return false end
  end
  for _, e in ipairs(f.ends) do withdraw(e) end
  return true
end

-- ---- all together

-- An alert comes from its event's settle: into its lane, or held.
local function raise(f)
  if f.held or f.released or not (f.noise or f.ends) then return place(f) end
  if is_settled(f) then return end
  local s = recall(f)
  local reason = s and judge(s, f) or f.noise and not f.clear and storm_of(f) or nil
  if not reason and is_needless(f) then reason = 'cleared' end
  if not reason and s and s.held > 0 then
    local fields = f.fields
    fields[#fields + 1] = 'more'
    fields[#fields + 1] = string.format('%d %d', s.held, s.from)
  end
  local result = reason and hold(f, reason) or place(f)
  if not s then return end
  if reason == 'threshold' or reason == 'dedup' or reason == 'flapping' then
    note_held(s, f, reason)
  elseif not reason or reason == 'cleared' then
    let_through(s, f)
    if result == 'placed' or result == 'behind' then s.held, s.from = 0, nil end
  end
  remember(s, f)
end
