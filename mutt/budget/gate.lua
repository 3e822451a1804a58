-- The gate of Moog's budget, breaker and pause. Runs inside take, settle and release (streams/), so that asking,
-- granting and noting what came of it are one step with the data they are about. Times are microseconds of Redis'
-- clock. State: mutt:rate_limit:moog (the log), mutt:breaker:moog (a hash), mutt:lock:moog (the probe's lock).
local gate = {}

local LOG, BREAKER, LOCK, TRIES = 'mutt:rate_limit:moog', 'mutt:breaker:moog', 'mutt:lock:moog', 'mutt:alerts:tries'
-- The entries that probed in vain since the breaker opened.
local PROBED = 'mutt:breaker:probed'

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function get(name)
  return redis.call('HGET', BREAKER, name) or ''
end

local function number(name)
  return tonumber(redis.call('HGET', BREAKER, name) or '0')
end

local function exact(n) return string.format('%.0f', n) end

local function ms(us) return math.max(1, math.ceil(us / 1000)) end

-- Microseconds until the time that is noted under name, at most as many as were meant: a clock that was set back
-- leaves it too far ahead, so it is noted anew.
local function rest(name, now, most)
  local left = number(name) - now
  if left > most then
    redis.call('HSET', BREAKER, name, exact(now + most))
    return most
  end
  return left
end

-- The strictest value that a forwarder in use has of one setting: its own, or the one that is noted. Whoever is that
-- strict keeps the note; where nobody is any more, it runs out.
local function strictest(name, own, choose, now, keep)
  local noted, ends = number(name), number(name .. '_until')
  if noted > 0 and ends > now then
    local value = choose(own, noted)
    -- A clock that was set back leaves the end too far ahead: it is noted anew.
    local stale = noted ~= value or value == own and ends < now + keep / 2 or ends > now + keep
    if stale then redis.call('HSET', BREAKER, name, exact(value), name .. '_until', exact(now + keep)) end
    return value
  end
  redis.call('HSET', BREAKER, name, exact(own), name .. '_until', exact(now + keep))
  return own
end

-- While forwarders with another limit or period run beside this one, the lowest limit and the longest window count for
-- all: whichever of their settings is meant, it is not exceeded.
local function agree(o, now)
  local keep = math.max(o.gate.agree_us, 2 * o.gate.window_us, 2 * number('window_us'))
  o.gate.window_us = strictest('window_us', o.gate.window_us, math.max, now, keep)
  o.gate.limit = strictest('limit', o.gate.limit, math.min, now, keep)
end

-- Which history of its data this Redis goes on with: another one after each start and each promotion, also of a server
-- that was the primary before. Asked once a script, for it is the dearest question of all.
local history

-- After a restart or a failover the log may lack grants that were given: nothing is granted for one window.
local function fence(o, now)
  history = history or string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  if get('history') ~= history then
    redis.call('HSET', BREAKER, 'history', history, 'fence', exact(now + o.gate.window_us + o.gate.extra_most_us))
  end
  return rest('fence', now, o.gate.window_us + o.gate.extra_most_us)
end

local function turn(state, fields)
  redis.call('HSET', BREAKER, 'state', state, unpack(fields or {}))
  redis.call('HINCRBY', BREAKER, 'generation', 1)
end

local function open(o, now, reason)
  turn('open', {'reason', reason, 'failures', 0, 'opened_at', exact(now), 'until', exact(now + o.gate.timeout_us)})
  redis.call('DEL', LOCK)
end

local function close()
  turn('closed', {'reason', '', 'failures', 0, 'until', 0})
  redis.call('DEL', LOCK, PROBED)
end

local function probing()
  local state = get('state')
  return state == 'open' or state == 'half_open'
end

-- A probe that failed may have failed because of its alert: another one probes next, or one bad alert at the head of
-- the highest lane would keep Moog from all the others.
function gate.shuns(id)
  return probing() and redis.call('SISMEMBER', PROBED, id) == 1
end

-- All that waits has probed: from the beginning.
function gate.relent()
  redis.call('DEL', PROBED)
end

-- A forwarder looks, and finds nothing to send: a fence that is due stands from now, not from the first alert on.
function gate.wake(o)
  local now = clock()
  agree(o, now)
  fence(o, now)
end

-- May a request be started now? nil, or a wait in ms and its reason.
function gate.ask(o)
  local now = clock()
  local fenced = fence(o, now)
  if fenced > 0 then return ms(fenced), 'restarted' end

  local paused = rest('pause_until', now, o.gate.pause_max_us)
  if paused > 0 then return ms(paused), 'paused' end

  local state = get('state')
  if state == 'open' then
    local broken = rest('until', now, o.gate.timeout_us)
    if broken > 0 then return ms(broken), 'breaker' end
  end
  if probing() then
    local held = redis.call('PTTL', LOCK)
    if held > o.gate.lock_ms then redis.call('PEXPIRE', LOCK, o.gate.lock_ms) end
    if held > 0 then return math.min(held, o.gate.lock_ms), 'probing' end
    -- One alert probes: in a batch a bad one would fail it for its neighbours, each time anew.
    o.want = math.min(o.want, 1)
  end

  redis.call('ZREMRANGEBYSCORE', LOG, '-inf', '(' .. exact(now - o.gate.window_us))
  -- A clock that was set back leaves grants further ahead than any could be: they count as given now, with the most
  -- that a permit may ask for, which is the safe side.
  local latest = exact(now + o.gate.extra_most_us)
  local ahead = redis.call('ZRANGEBYSCORE', LOG, '(' .. latest, '+inf')
  for _, member in ipairs(ahead) do redis.call('ZADD', LOG, latest, member) end

  local used = redis.call('ZCARD', LOG)
  if used >= o.gate.limit then
    local oldest = redis.call('ZRANGE', LOG, used - o.gate.limit, used - o.gate.limit, 'WITHSCORES')
    return ms(tonumber(oldest[2]) + o.gate.window_us - now + 1), 'budget'
  end
end

-- Grants one request: a token, and the generation of the breaker that it belongs to.
function gate.spend(o, taken)
  local now = clock()
  -- The time is part of it: a count that a failover or a hand set back must not name another grant in the log.
  local token = exact(redis.call('HINCRBY', BREAKER, 'granted', 1)) .. '-' .. exact(now)
  -- A permit that lives longer than the slack counts as given that much later.
  redis.call('ZADD', LOG, exact(now + (o.extra_us or 0)), token)
  redis.call('PEXPIRE', LOG, ms(o.gate.window_us + o.gate.extra_most_us) * 2)
  if probing() then
    redis.call('SET', LOCK, token, 'NX', 'PX', o.gate.lock_ms)
    for _, entry in ipairs(taken) do redis.call('SADD', PROBED, entry[2]) end
    turn('half_open')
  end
  return token, number('generation')
end

-- What a request came to. A result of an earlier generation says nothing about the present one.
function gate.report(o, r)
  -- Of alerts, not of Moog: see gate.strike.
  if r.kind == 'alone' then return end
  local now = clock()
  redis.call('HINCRBY', BREAKER, 'reported', 1)
  if r.kind == 'accepted' then redis.call('HINCRBY', BREAKER, 'accepted', 1) end
  -- Nothing was sent under this permit, and nothing ever will be: the grant goes back. What MUTT itself failed on has
  -- no token where something was sent.
  local unsent = r.kind == 'unsent' or r.kind == 'broken'
  if unsent then redis.call('ZREM', LOG, r.token) end
  if r.pause_us > 0 then
    local until_us = math.max(number('pause_until'), now + math.min(r.pause_us, o.gate.pause_max_us))
    redis.call('HSET', BREAKER, 'pause_until', exact(until_us))
  end
  if r.generation ~= number('generation') then return end

  local state = get('state')
  if r.kind == 'accepted' or r.kind == 'alive' then
    if state == 'half_open' then close() else redis.call('HSET', BREAKER, 'failures', 0) end
  elseif r.kind == 'trip' then
    open(o, now, r.reason)
  elseif r.kind == 'failed' then
    if state == 'half_open' or redis.call('HINCRBY', BREAKER, 'failures', 1) >= o.gate.threshold then
      open(o, now, r.reason)
    end
  elseif unsent and state == 'half_open' then
    -- Nothing was learnt: the next one may probe at once.
    turn('open', {'until', exact(now)})
    redis.call('DEL', LOCK)
  end
end

-- One more request for an alert, kept as "requests:strikes:accepted". A failure counts against the alert only if
-- Moog took another since the last one; so does a 401, 403 or 404: a firewall in front of Moog answers like that to
-- one alert's text, and while the key or the address is wrong Moog takes nothing, so nothing counts. Likewise where MUTT
-- itself fails: on this alert, or on every one. Returns the strikes that this one brought it to.
function gate.strike(o, entry, r)
  if r.kind == 'unsent' then return 0 end
  local failed = r.kind == 'failed' or r.kind == 'trip' or r.kind == 'broken'
  local accepted = number('accepted')
  local requests, strikes, seen = string.match(redis.call('HGET', TRIES, entry.alert) or '', '(%d+):(%d+):(%d*)')
  requests, strikes, seen = tonumber(requests or '0') + 1, tonumber(strikes or '0'), tonumber(seen or '')
  if failed then
    if seen and accepted > seen then strikes = strikes + 1 end
    seen = accepted
  elseif r.kind == 'alone' then
    -- One of a batch that Moog refused, not yet told from its neighbours: suspected, so that it goes alone.
    strikes = math.max(strikes, 1)
  end
  redis.call('HSET', TRIES, entry.alert, requests .. ':' .. strikes .. ':' .. (seen and exact(seen) or ''))
  return failed and strikes or 0
end
