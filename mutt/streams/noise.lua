-- Noise control: an alert comes from its event's settle, and goes into its lane or is held. In this order: what its
-- verdict says, the bounds of its rule, storms; then what a clear makes needless.
local function raise(f)
  if f.lead then
    if is_settled(f) then return end
    unsure[f.id] = true
  end
  if f.held or f.released or not (f.noise or f.ends) then return place(f) end
  if is_settled(f) then return end
  local s = recall(f)
  local reason = s and judge(s, f) or f.noise and not f.clear and storm_of(f) or nil
  if not reason and is_needless(s, f) then reason = 'cleared' end
  if not reason and s and s.held > 0 then
    local fields = f.fields
    fields[#fields + 1] = 'more'
    fields[#fields + 1] = string.format('%d %d', s.held, s.from)
  end
  local result = reason and hold(f, reason) or place(f)
  if not s then return end
  if reason == 'threshold' or reason == 'dedup' or reason == 'flapping' then
    note_held(s, f, reason)
  elseif not reason or reason == 'cleared' then
    let_through(s, f)
    if result == 'placed' or result == 'behind' then s.held, s.from = 0, nil end
  end
  remember(s, f)
end
