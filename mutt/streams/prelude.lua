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

local function into_lane(alert)
  local lane = 'mutt:alert_queue:' .. alert.lane
  add(lane, alert.fields)
  redis.call('HSET', STANDING, alert.id, lane)
  redis.call('HSET', HOLDERS, alert.sig, alert.id)
  ring('alert_queue')
end

-- Puts an alert where it belongs, unless it stands already or is done: into its lane; behind the alert of the
-- same signature that is there; or nowhere, when the lane is full (its row is enough, the sweep brings it in).
-- Once a lane has alerts outside, later ones wait outside too: else a clear could overtake its raise.
local function place(alert)
  if redis.call('HEXISTS', STANDING, alert.id) == 1 then return 'stands' end
  if redis.call('EXISTS', 'mutt:alerts:done:' .. alert.id) == 1 then return 'done' end
  if alert.lane ~= 'critical' then
    local full = redis.call('XLEN', 'mutt:alert_queue:' .. alert.lane) >= alert.max
    local outside = tonumber(redis.call('HGET', OUTSIDE, alert.lane) or '0')
    if alert.swept then
      if full then return 'full' end
    elseif full or outside > 0 then
      redis.call('HINCRBY', OUTSIDE, alert.lane, 1)
      return 'outside'
    end
  end
  if redis.call('HEXISTS', HOLDERS, alert.sig) == 1 then
    redis.call('RPUSH', 'mutt:behind:' .. alert.sig, cmsgpack.pack(alert))
    redis.call('HSET', STANDING, alert.id, 'behind')
    return 'behind'
  end
  into_lane(alert)
  return 'placed'
end

-- The alert of this signature left its lane: the next one behind it comes in.
local function leave(sig)
  local behind = redis.call('LPOP', 'mutt:behind:' .. sig)
  if behind then
    into_lane(cmsgpack.unpack(behind))
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
