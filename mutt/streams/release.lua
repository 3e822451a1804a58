#!lua flags=allow-oom
-- release: hands entries back without counting an attempt; they are taken again after a delay of at most the
-- claim timeout. Only its own: an entry that was taken over in the meantime stays where it is.
local o = cmsgpack.unpack(ARGV[1])

local strikes = {}
for i, e in ipairs(o.entries) do
  local p = redis.call('XPENDING', e.stream, o.group, e.id, e.id, 1)
  if p[1] and p[1][2] == o.consumer then
    redis.call('XCLAIM', e.stream, o.group, o.consumer, 0, e.id, 'IDLE', math.max(0, o.claim_ms - o.delay_ms),
               'RETRYCOUNT', math.max(0, e.attempts - 1), 'JUSTID')
  end
  strikes[i] = o.report and gate.strike(o, e, o.report) or 0
end
if o.report then gate.report(o, o.report) end
return strikes
