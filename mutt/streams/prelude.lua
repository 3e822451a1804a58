-- What the scripts share: the ledger, the bell, and the standing of alerts.

-- The queues whose bell this script set; whoever called it publishes their doorbells.
local rung = {}

local function ring(queue)
  if redis.call('SET', 'mutt:bell:' .. queue, '1', 'NX', 'PX', 2000) then
    rung[#rung + 1] = queue
  end
end

-- The books move only here.
local function count(deltas)
  for field, by in pairs(deltas or {}) do
    if by ~= 0 then redis.call('HINCRBY', 'mutt:ledger', field, by) end
  end
end

local function add(stream, fields)
  return redis.call('XADD', stream, '*', unpack(fields))
end

local STANDING, HOLDERS, OUTSIDE = 'mutt:alerts:standing', 'mutt:alerts:holders', 'mutt:alerts:outside'
-- How many stand behind others, a lane; and the signatures that go by a more urgent lane than their own.
local BEHIND, LIFTED = 'mutt:alerts:behind', 'mutt:alerts:lifted'
-- How many of a signature are outside of a lane, by both.
local OUTSIDE_OF = 'mutt:alerts:outside_of'
local LANE = 'mutt:alert_queue:'
local URGENCY = {critical = 4, major = 3, minor = 2, info = 1}

local function put(lane, fields, id)
  local entry = add(LANE .. lane, fields)
  redis.call('HSET', STANDING, id, lane .. ' ' .. entry)
  ring('alert_queue')
end

-- The lane in which an alert of this signature goes: its own, or the one that a more urgent alert behind it needs.
local function lane_of(sig, lane)
  local lifted = string.match(redis.call('HGET', LIFTED, sig) or '', '^%a+')
  if lifted and URGENCY[lifted] > URGENCY[lane] then return lifted end
  return lane
end

local function into_lane(alert)
  redis.call('HSET', HOLDERS, alert.sig, alert.id)
  put(lane_of(alert.sig, alert.lane), alert.fields, alert.id)
end

-- A more urgent alert waits behind a holder of its signature, which waits in its own lane behind all others there:
-- unless somebody is at work on it, it moves up, and so does, until this alert has left, whatever is between.
local function lift(alert)
  local holder = redis.call('HGET', HOLDERS, alert.sig)
  local lane, entry = string.match(redis.call('HGET', STANDING, holder) or '', '^(%a+) (%S+)$')
  if not lane or URGENCY[alert.lane] < URGENCY[lane_of(alert.sig, lane)] then return end
  redis.call('HSET', LIFTED, alert.sig, alert.lane .. ' ' .. alert.id)
  if URGENCY[alert.lane] == URGENCY[lane] then return end
  local worked = redis.pcall('XPENDING', LANE .. lane, 'mutt', entry, entry, 1)
  if worked[1] then return end
  local found = redis.call('XRANGE', LANE .. lane, entry, entry)[1]
  if found then
    redis.call('XDEL', LANE .. lane, entry)
    put(alert.lane, found[2], holder)
  end
end

local function is_full(alert)
  if alert.lane == 'critical' then return false end
  local behind = tonumber(redis.call('HGET', BEHIND, alert.lane) or '0')
  return redis.call('XLEN', LANE .. alert.lane) + behind >= alert.max
end

-- Is something that this clear would overtake outside of one of these lanes? (A raise may overtake: Moog folds them.)
local function overtakes(alert, lanes)
  if not alert.clear then return false end
  for lane in pairs(lanes) do
    if redis.call('HEXISTS', OUTSIDE_OF, alert.sig .. ' ' .. lane) == 1 then return true end
  end
  return false
end

-- An alert that is kept from Moog: it waits no longer, and `record` writes why. Until then it stands nowhere but here.
local function hold(alert, reason)
  count({['alerts.waiting'] = -1, ['alerts.cancelled'] = 1})
  redis.call('HSET', STANDING, alert.id, 'held')
  add('mutt:delivery_queue', {'v', '3', 'n', '1', 'id', alert.id, 'held', reason})
  ring('delivery_queue')
  return 'held'
end

-- Is there no more to do about this alert: does it stand somewhere, or is it done? One that is released from having
-- been held begins to wait again: once, whoever brings it in.
local function is_settled(alert)
  local stands = redis.call('HGET', STANDING, alert.id)
  if stands and not (alert.released and stands == 'held') then return 'stands' end
  local done = redis.call('GET', 'mutt:alerts:done:' .. alert.id)
  if done and not (alert.released and done == 'held') then return 'done' end
end

local function note_outside(alert, by)
  local left = redis.call('HINCRBY', OUTSIDE_OF, alert.sig .. ' ' .. alert.lane, by)
  if left <= 0 then redis.call('HDEL', OUTSIDE_OF, alert.sig .. ' ' .. alert.lane) end
end

-- Puts an alert where it belongs, unless it stands already or is done: into its lane; behind the alert of the
-- same signature that is there; or nowhere, when the lane is full (its row is enough, the sweep brings it in).
-- Once a lane has alerts outside, later ones wait outside too: else a clear could overtake its raise. The sweep names
-- the lanes that it does not bring in from now (closed). A dead letter that is sent again (by_hand) goes in whatever
-- waits outside, where it was not itself.
local function place(alert, closed)
  local settled = is_settled(alert)
  if settled then return settled end
  if alert.held then return hold(alert, alert.held) end
  local full = not alert.by_hand and is_full(alert)
  if alert.by_hand then
    -- no limit, and no mark
  elseif alert.swept then
    if full then return 'full' end
    if overtakes(alert, closed or {}) then return 'later' end
    if not alert.released then note_outside(alert, -1) end
  elseif full or tonumber(redis.call('HGET', OUTSIDE, alert.lane) or '0') > 0 or overtakes(alert, URGENCY) then
    redis.call('HINCRBY', OUTSIDE, alert.lane, 1)
    note_outside(alert, 1)
    return 'outside'
  end
  -- One that was lost may have reached Moog: whoever would cancel it has to know (cleared.lua). One that was released
  -- stays so in its row, which can't be cancelled again: the sweep would bring in the raise without its clear.
  if alert.swept then
    alert.fields[#alert.fields + 1] = 'swept'
    alert.fields[#alert.fields + 1] = '1'
  end
  if alert.released then
    redis.call('DEL', 'mutt:alerts:done:' .. alert.id)
    count({['alerts.cancelled'] = -1, ['alerts.waiting'] = 1})
  end
  if redis.call('HEXISTS', HOLDERS, alert.sig) == 1 then
    redis.call('RPUSH', 'mutt:behind:' .. alert.sig, cmsgpack.pack(alert))
    redis.call('HSET', STANDING, alert.id, 'behind')
    redis.call('HINCRBY', BEHIND, alert.lane, 1)
    lift(alert)
    return 'behind'
  end
  into_lane(alert)
  return 'placed'
end

-- What waited behind another and can't be read is parked, with its id where that can be told: an error here would
-- stop the one before it, which is at Moog already.
local HEX4 = '%x%x%x%x'
local UUID = HEX4 .. HEX4 .. ('%-' .. HEX4):rep(4) .. HEX4 .. HEX4
local DAMAGED = '{"reason":"undecodable","detail":"damaged behind another alert of its signature","attempts":0}'

local function give_up(packed, sig)
  local id = string.match(packed, UUID) or ''
  if string.match(redis.call('HGET', LIFTED, sig) or '', '%S+$') == id then redis.call('HDEL', LIFTED, sig) end
  add('mutt:dlq:moog', {'v', '0', 'n', '1', 'id', id, 'd', packed, 'why', DAMAGED})
  count({['alerts.waiting'] = -1, ['alerts.parked'] = 1})
  -- Which lane it was counted for stands as text, too: else that lane kept a place for it.
  local lane = string.match(packed, 'lane[\160-\191](%a+)')
  if URGENCY[lane or ''] then redis.call('HINCRBY', BEHIND, lane, -1) end
end

-- The next one behind the holder of this signature, or nil.
local function next_behind(sig)
  while true do
    local packed = redis.call('LPOP', 'mutt:behind:' .. sig)
    if not packed then return nil end
    local ok, alert = pcall(cmsgpack.unpack, packed)
    if ok and type(alert) == 'table' and alert.id and alert.lane and alert.fields then return alert end
    give_up(packed, sig)
  end
end

-- The alert of this signature left its lane: the next one behind it comes in.
local function leave(sig, id)
  if string.match(redis.call('HGET', LIFTED, sig) or '', '%S+$') == id then redis.call('HDEL', LIFTED, sig) end
  local alert = next_behind(sig)
  if alert then
    redis.call('HINCRBY', BEHIND, alert.lane, -1)
    into_lane(alert)
  else
    redis.call('HDEL', HOLDERS, sig)
  end
end

-- Streams and groups come into being when they are first needed, and again when they were lost: a group starts
-- at 0, so that what stands in the stream and is not done is handed out once more.
local function with_group(stream, group, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'NOGROUP', 1, true) then
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    reply = redis.call(...)
  elseif type(reply) == 'table' and reply.err then
    error(reply.err)
  end
  return reply
end

-- Does this consumer hold the entry as it was handed out to it? Threads of one worker share a consumer's name; a
-- take-over counts the attempts on, so that an earlier holder is told from a later one.
local function holds(consumer, group, e)
  local p = redis.pcall('XPENDING', e.stream, group, e.id, e.id, 1)
  return p[1] ~= nil and p[1][2] == consumer and p[1][4] == e.attempts
end
