#!lua flags=allow-oom
-- release: hands entries back without counting an attempt (unless it is `counted`); they are taken again after a delay of at most the
-- claim timeout. Only its own: an entry that was taken over in the meantime stays where it is. An alert that Moog
-- refused often enough stays with its holder, who parks it. Of each that really goes back a note may be appended: what
-- the request came to. Moog was asked, so there are at most as many as the budget grants.
local o = cmsgpack.unpack(ARGV[1])

local strikes = {}
for i, e in ipairs(o.entries) do
  strikes[i] = 0
  if holds(o.consumer, o.group, e) then
    if o.report then strikes[i] = gate.strike(o, e, o.report) end
    if strikes[i] < (o.strikes or math.huge) then
      redis.call('XCLAIM', e.stream, o.group, o.consumer, 0, e.id, 'IDLE', math.max(0, o.claim_ms - o.delay_ms),
                 'RETRYCOUNT', math.max(0, e.attempts - (o.counted and 0 or 1)), 'JUSTID')
      local note = o.notes and o.notes[i]
      if note then
        add(note.stream, note.fields)
        ring(note.queue)
      end
    end
  end
end
if o.report then gate.report(o, o.report) end
return {strikes, rung}
