-- Noise control of one signature: thresholds, repeats, flapping. rules/noise.py is the same as a model. Times are those
-- of the events, in microseconds: a backlog is judged as live traffic would have been. What is remembered goes after
-- `keep_ms` without a word; where there is no room to remember, alerts are sent.
local SIGNATURE, KEPT, DUE = 'mutt:noise:of:', 'mutt:noise:kept', 'mutt:noise:due'
-- So many signatures and storms are remembered, none of them for longer (ms) than twice the longest window.
local MOST_KEPT, KEPT_MS = 200000, 16 * 86400000
-- What is owed to Moog is remembered for so much longer: nobody may be there to send it, or PostgreSQL be away.
local OWED_MS = 86400000

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
  redis.call('PEXPIRE', KEPT, KEPT_MS)
  return true
end

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
  s.told, s.told_id, s.pending = f.clear and 'clear' or 'raise', f.id, nil
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
  local ms = f.noise.keep_ms
  if s.pending then
    ms = ms + OWED_MS
    redis.call('ZADD', KEPT, now_ms() + ms, SIGNATURE .. f.sig)
  end
  redis.call('SET', SIGNATURE .. f.sig, cmsgpack.pack(s), 'PX', ms)
end

-- Moog was to be told of this alert, and is not: the next of its signature is no repeat.
local function take_back(sig, id)
  local packed = redis.call('GET', SIGNATURE .. sig)
  local ok, s = pcall(cmsgpack.unpack, packed or '')
  if not packed or not ok or type(s) ~= 'table' or s.told_id ~= id then return end
  s.since, s.told, s.told_id = nil, 'clear', nil
  redis.call('SET', SIGNATURE .. sig, cmsgpack.pack(s), 'KEEPTTL')
end
