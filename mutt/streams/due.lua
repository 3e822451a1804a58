#!lua flags=allow-oom
-- due: what noise control owes after a while: a storm's summary, the last word of a signature that flapped. Each step
-- changes only what still is as its asker saw it, so it may be asked again.
local o = cmsgpack.unpack(ARGV[1])
local DUE, SIGNATURE, STORM = 'mutt:noise:due', 'mutt:noise:of:', 'mutt:storm:'
local ops = {}

-- MUTT's own event tells of a storm. One that is over is forgotten, unless it grew meanwhile.
function ops.tell()
  local key, member = STORM .. o.key, 'storm:' .. o.key
  local was = redis.call('HMGET', key, 'told', 'count')
  if (was[1] or '') ~= o.told or not was[2] or (o.over and was[2] ~= o.count) then return '' end
  if o.fields then
    add(o.stream, o.fields)
    count({['events.accepted'] = 1, ['events.queued'] = 1, ['ingest.bytes'] = o.size})
    ring(o.queue)
  end
  if o.over then
    redis.call('DEL', key, key .. ':members')
    redis.call('ZREM', DUE, member)
  else
    redis.call('HSET', key, 'told', o.count)
    redis.call('ZADD', DUE, o.next_ms, member)
  end
  return 'told'
end

local function recall()
  local packed = redis.call('GET', SIGNATURE .. o.sig)
  local ok, s = pcall(cmsgpack.unpack, packed or '')
  if packed and ok and type(s) == 'table' then return s end
end

local function forget(s)
  if s then
    s.pending = nil
    redis.call('SET', SIGNATURE .. o.sig, cmsgpack.pack(s), 'KEEPTTL')
  end
  redis.call('ZREM', DUE, 'flap:' .. o.sig)
  return ''
end

-- The alert that Moog has to get now that this signature rests, or ''.
function ops.rest()
  local s = recall()
  if not s or not s.pending or s.last == (s.told or 'clear') then return forget(s) end
  local rests = math.ceil((s.changed + s.rest) / 1000)
  if rests > o.now_ms then
    redis.call('ZADD', DUE, rests, 'flap:' .. o.sig)
    return ''
  end
  return s.pending
end

-- It stands in its lane.
function ops.rested()
  local s = recall()
  if s and s.pending ~= o.id then return '' end
  if s then s.told, s.told_id = s.last, o.id end
  return forget(s)
end

return {ops[o.op](), rung}
