-- append: adds a round of entries, all or nothing, once.
--
-- A round that timed out may have been done: its id is remembered, so asking again is safe. A part with an
-- idempotency key that is known adds nothing and answers what the first one answered.
local o = cmsgpack.unpack(ARGV[1])

-- The sweep: alerts whose rows wait and that stand nowhere. A lane's outside mark goes when nothing was added to
-- it since the sweep looked and found no more rows.
if o.alerts then
  local results, closed = {}, {}
  for _, lane in ipairs(o.closed or {}) do closed[lane] = true end
  for i, alert in ipairs(o.alerts) do
    results[i] = place(alert, closed)
    if results[i] == 'full' then closed[alert.lane] = true end
  end
  for lane, seen in pairs(o.outside or {}) do
    if (redis.call('HGET', OUTSIDE, lane) or '0') == seen then redis.call('HDEL', OUTSIDE, lane) end
  end
  if redis.call('EXISTS', OUTSIDE) == 0 then redis.call('DEL', OUTSIDE_OF) end
  return cmsgpack.pack({results = results, rung = rung})
end

local known = redis.call('GET', 'mutt:round:' .. o.round)
if known then
  -- A write of this connection's own: WAIT speaks of those alone, and of nothing where there is none.
  redis.call('PEXPIRE', 'mutt:round:' .. o.round, o.round_ms)
  return known
end

local queued = tonumber(redis.call('HGET', 'mutt:ledger', 'events.queued') or '0')
local bytes = tonumber(redis.call('HGET', 'mutt:ledger', 'ingest.bytes') or '0')
local n, size = 0, 0
for _, part in ipairs(o.parts) do
  for _, entry in ipairs(part.entries) do
    n, size = n + entry.n, size + entry.size
  end
end
if queued + n > o.max_events then return cmsgpack.pack({refused = 'depth', depth = queued}) end
if bytes + size > o.max_bytes then return cmsgpack.pack({refused = 'bytes', depth = queued}) end

local replies, added, added_size = {}, 0, 0
for i, part in ipairs(o.parts) do
  local first = part.key and redis.call('GET', part.key)
  if first then
    replies[i] = first
  else
    for _, entry in ipairs(part.entries) do
      add(o.stream, entry.fields)
      added, added_size = added + entry.n, added_size + entry.size
    end
    if part.key then redis.call('SET', part.key, part.reply, 'PX', o.key_ms) end
    replies[i] = ''
  end
end
if added > 0 then
  count({['events.accepted'] = added, ['events.queued'] = added, ['ingest.bytes'] = added_size})
  ring(o.queue)
end
local reply = {replies = replies, depth = queued + added}
-- A later asker with this id must not ring a second time: what it is told lacks the bell.
redis.call('SET', 'mutt:round:' .. o.round, cmsgpack.pack(reply), 'PX', o.round_ms)
reply.rung = rung
return cmsgpack.pack(reply)
