#!lua flags=allow-oom
-- settle: for each move, only if the acknowledgement really removed the entry (a robbed holder gets 0): deletes
-- it, moves the books, appends what follows. A move without a group is one out of a dead-letter stream. With a
-- consumer a robbed holder gets 0 even while the new one is still at work: else the next alert of a signature came in
-- beside the one that is being sent once more.
local o = cmsgpack.unpack(ARGV[1])

local follow = {}

function follow.append(f)
  add(f.stream, f.fields)
  if f.queue then ring(f.queue) end
end

function follow.alert(f)
  raise(f)
end

-- A dead letter is sent again: whatever was noted of its end is taken back.
function follow.replay(f)
  redis.call('DEL', 'mutt:alerts:done:' .. f.id)
  redis.call('HDEL', STANDING, f.id)
  place(f)
end

-- An alert is finished at Moog: the next of its signature comes in. Until its outcome is recorded it stands there.
function follow.leave(f)
  leave(f.sig, f.id)
  redis.call('HSET', STANDING, f.id, 'delivery')
  redis.call('HDEL', 'mutt:alerts:tries', f.id)
end

-- Its outcome stands in PostgreSQL. The mark outlives every settle that could still ask to place it again. One that
-- was sent again meanwhile (a replayed letter) stands in a lane: it is not done. Neither is one that was held and is
-- released, so the mark says which it was.
function follow.recorded(f)
  local stands = redis.call('HGET', STANDING, f.id)
  if stands and stands ~= (f.held and 'held' or 'delivery') then return end
  redis.call('HDEL', STANDING, f.id)
  if f.held then
    redis.call('SET', 'mutt:alerts:done:' .. f.id, 'held', 'PX', 600000, 'NX')
  else
    redis.call('SET', 'mutt:alerts:done:' .. f.id, '1', 'PX', 600000)
  end
end

function follow.drop(f)
  redis.call('HSET', 'mutt:drops', f.id, f.record)
end

-- An alert is given up that nobody can read, or that was damaged behind another (only where it stands so): it stands
-- nowhere any more.
function follow.forget(f)
  if not f.only or redis.call('HGET', STANDING, f.id) == f.only then redis.call('HDEL', STANDING, f.id) end
end

-- Events that no rule handles, by host and template ("kinds": key, n, key, n, …; n as text, for a number is printed for
-- every command that it is given to). The one that crosses the threshold appends MUTT's own event. This is the longest
-- loop of all scripts.
local counted = {}

local function look(keys)
  for first = 1, #keys, 1000 do
    local last = math.min(first + 999, #keys)
    for i, n in ipairs(redis.call('MGET', unpack(keys, first, last))) do
      counted[keys[first + i - 1]] = n and tonumber(n) or 0
    end
  end
end

-- The kinds that may cross here and whose event is not at hand: hardly ever one, so it is made only if it is asked for.
local function wanted()
  local keys, sums, lacking = {}, {}, {}
  for _, m in ipairs(o.moves) do
    local kinds = m.unhandled and m.unhandled.kinds or {}
    for i = 1, #kinds, 2 do
      local key = kinds[i]
      local sum = sums[key]
      if not sum then keys[#keys + 1] = key end
      sums[key] = (sum or 0) + kinds[i + 1]
    end
  end
  look(keys)
  for _, m in ipairs(o.moves) do
    local u = m.unhandled or {kinds = {}}
    for i = 1, #u.kinds, 2 do
      local key = u.kinds[i]
      local before = counted[key]
      if before + sums[key] >= u.threshold and before < u.threshold and not u.events[key] then
        lacking[#lacking + 1] = key
      end
    end
  end
  return lacking
end

-- Words that a sender makes up make kinds without end, and each is kept for the window: beyond so many they are
-- audited like the others, and not counted.
local function may_begin(u)
  local kinds = redis.call('INCR', 'mutt:unhandled_kinds')
  if kinds == 1 then redis.call('PEXPIRE', 'mutt:unhandled_kinds', u.window_ms) end
  return kinds <= u.most
end

local function count_unhandled(u)
  for i = 1, #u.kinds, 2 do
    local key = u.kinds[i]
    local before = counted[key]
    if before > 0 or may_begin(u) then
      local after = redis.call('INCRBY', key, u.kinds[i + 1])
      counted[key] = after
      if before == 0 then redis.call('PEXPIRE', key, u.window_ms) end
      if before < u.threshold and after >= u.threshold then
        local event = u.events[key]
        add(u.stream, event.fields)
        count({['events.accepted'] = 1, ['events.queued'] = 1, ['ingest.bytes'] = event.size})
        ring(u.queue)
      end
    end
  end
end

-- An entry of another server (spread.py): what follows it is done here, once; then it is acknowledged there. The marker
-- tells whoever gets the entry again, and holds what is left to do there. Whoever had it for too long is too late: the
-- marker may be gone.
local begun = {}

local function recall_begun()
  for _, marker in ipairs(o.confirmed) do redis.call('PEXPIRE', marker, o.after_ms) end
  if now_ms() > o.until_ms then return false end
  for i, m in ipairs(o.moves) do
    begun[i] = redis.call('GET', m.marker)
    if begun[i] then m.unhandled = nil end
  end
  return true
end

local function begin(i, m)
  if begun[i] then
    -- A write of this connection's own: its WAIT speaks of no others, and the replicas are to have the marker, too.
    redis.call('PEXPIRE', m.marker, o.keep_ms)
    return begun[i]
  end
  redis.call('SET', m.marker, m.rest, 'PX', o.keep_ms)
  return 1
end

if o.until_ms and not recall_begun() then return {{}, rung, {}, now_ms()} end
local lacking = wanted()
if #lacking > 0 then return {{}, {}, lacking, o.until_ms and now_ms()} end

local settled = {}
for i, m in ipairs(o.moves) do
  local removed = 0
  if m.marker then
    removed = begin(i, m)
  elseif not m.group then
    removed = redis.call('XDEL', m.stream, m.id)
  elseif not o.consumer or holds(o.consumer, m.group, m) then
    removed = redis.call('XACK', m.stream, m.group, m.id)
  end
  if removed == 1 then
    if m.group then redis.call('XDEL', m.stream, m.id) end
    count(m.counts)
    for _, f in ipairs(m.follow or {}) do follow[f.op](f) end
    if m.unhandled then count_unhandled(m.unhandled) end
  end
  settled[i] = removed
end
if o.report then gate.report(o, o.report) end
return {settled, rung, {}, o.until_ms and now_ms()}
