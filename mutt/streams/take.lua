#!lua flags=allow-oom
-- take: asks all that must hold, then hands out entries, lane by lane: first those whose holder has been silent
-- for longer than the claim timeout, then new ones. Nothing taken: nothing spent.
local o = cmsgpack.unpack(ARGV[1])

local function pending(stream)
  return with_group(stream, o.group, 'XPENDING', stream, o.group)[1]
end

-- All that is unfinished, held or not. A take changes nothing of that, so it asks once; and where nothing is, there is
-- no more to ask: most lanes are empty most of the time.
local lengths = {}

local function length(stream)
  lengths[stream] = lengths[stream] or redis.call('XLEN', stream)
  return lengths[stream]
end

-- What was handed back and is due again, and what a holder lost. As many as are wanted, at least: what comes back
-- after an outage is worked in whole batches, and before what is new.
local function due(stream)
  return redis.call('XPENDING', stream, o.group, 'IDLE', o.claim_ms, '-', '+', math.max(100, o.want))
end

local function left()
  -- What is pending stands in the stream: the rest is new.
  local sum = 0
  for _, stream in ipairs(o.streams) do
    if length(stream) > 0 then
      local held = pending(stream)
      sum = sum + length(stream) - held
      if held > 0 then sum = sum + #due(stream) end
    end
  end
  return sum
end

local taken, events = {}, 0

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return ''
end

local function note(stream, id, fields, attempts)
  local tries = o.tries and redis.call('HGET', o.tries, field(fields, 'id')) or ''
  taken[#taken + 1] = {stream, id, attempts, fields, tries or ''}
  events = events + (tonumber(field(fields, 'n')) or 1)
end

local function claim(stream)
  if length(stream) == 0 or pending(stream) == 0 then return end
  for _, p in ipairs(due(stream)) do
    if events >= o.want then return end
    if not gate.shuns(p[1]) then
      local got = redis.call('XCLAIM', stream, o.group, o.consumer, o.claim_ms, p[1])
      if got[1] then note(stream, p[1], got[1][2], p[4] + 1) end
    end
  end
end

local function read(stream)
  if length(stream) == 0 then return end
  -- One at a time: an entry holds from one event to five hundred, and the aim is a number of events.
  while events < o.want do
    local got = with_group(stream, o.group, 'XREADGROUP', 'GROUP', o.group, o.consumer, 'COUNT', 1,
                           'STREAMS', stream, '>')
    if not got or not got[1] then return end
    local entry = got[1][2][1]
    note(stream, entry[1], entry[2], 1)
  end
end

local function hold()
  for _, h in ipairs(o.held) do
    if holds(o.consumer, o.group, h) then
      redis.call('XCLAIM', h.stream, o.group, o.consumer, 0, h.id, 'JUSTID')
      taken[#taken + 1] = {h.stream, h.id, h.attempts, {}, ''}
    end
  end
end

local function waiting()
  if o.held then return true end
  for _, stream in ipairs(o.streams) do
    if length(stream) > 0 then
      if length(stream) > pending(stream) then return true end
      if #redis.call('XPENDING', stream, o.group, 'IDLE', o.claim_ms, '-', '+', 1) > 0 then return true end
    end
  end
  return false
end

-- A consumer that is long gone is forgotten, but only with nothing pending: its entries would go with it.
if o.tidy_ms then
  for _, stream in ipairs(o.streams) do
    pending(stream)
    for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', stream, o.group)) do
      if c[4] == 0 and c[6] > o.tidy_ms and c[2] ~= o.consumer then
        redis.call('XGROUP', 'DELCONSUMER', stream, o.group, c[2])
      end
    end
  end
end

-- The lanes in the order in which this turn looks at them. Every 20th turn begins low, so that none starves: with the
-- lowest lane, the next time with the one above it, and so on below the highest; from there down, then up.
local function order()
  local turn = o.turns and tonumber(redis.call('GET', o.turns) or '0') + 1 or 1
  if turn % 20 ~= 0 then return o.streams end
  local lowest, lanes = #o.streams, {}
  local first = lowest - (turn / 20 - 1) % math.max(1, lowest - 1)
  for i = first, lowest do lanes[#lanes + 1] = o.streams[i] end
  for i = first - 1, 1, -1 do lanes[#lanes + 1] = o.streams[i] end
  return lanes
end

gate.wake(o)
if not waiting() then return {{}, 0, '', 0, '', 0} end

local wait, reason = gate.ask(o)
if wait then return {{}, wait, reason, left(), '', 0} end

if o.held then
  hold()
else
  local function serve()
    for _, stream in ipairs(order()) do
      claim(stream)
      read(stream)
      if events >= o.want then break end
    end
  end
  serve()
  if #taken == 0 then
    -- All that is there was shunned.
    gate.relent()
    serve()
  end
end

local token, generation, rest = '', 0, left()
if #taken > 0 then
  if not o.held then
    if o.turns then redis.call('INCR', o.turns) end
    -- Somebody is at work, and appends need not ring; but a turn that took the last entry does not look again, so
    -- whatever comes after it has to ring.
    if o.turns and rest == 0 then
      redis.call('DEL', 'mutt:bell:' .. o.queue)
    else
      redis.call('SET', 'mutt:bell:' .. o.queue, '1', 'PX', 2000)
    end
  end
  token, generation = gate.spend(o, taken)
end
return {taken, 0, '', rest, token, generation}
