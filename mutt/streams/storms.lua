-- Storms: many alerts of one key, of which MUTT's own event tells.
local STORM = 'mutt:storm:'
-- So many members of a storm are told apart.
local MOST_MEMBERS = 200

-- A storm's own record, of which its summaries are made; the first of its members makes it due at once.
local function add_to_storm(f, p)
  local key, at, m = STORM .. p.key, f.noise.at, f.noise.member
  local was = redis.call('HMGET', key, 'first', 'last', 'worst')
  redis.call('HINCRBY', key, 'count', 1)
  redis.call('HSET', key, 'first', math.min(tonumber(was[1] or at), at), 'last', math.max(tonumber(was[2] or at), at),
             'worst', math.max(tonumber(was[3] or m.severity), m.severity), 'touched', now_ms())
  if not was[1] then
    redis.call('HSET', key, 'begun', at, 'policy', p.id, 'name', p.name, 'by', p.by, 'value', p.value, 'team', m.team,
               'window_ms', p.window / 1000)
    redis.call('ZADD', DUE, now_ms(), 'storm:' .. p.key)
  end
  local members = key .. ':members'
  local known = redis.call('HEXISTS', members, m.who) == 1 or redis.call('HLEN', members) < MOST_MEMBERS
  redis.call('HINCRBY', members, known and m.who or '', 1)
  redis.call('PEXPIRE', key, p.storm_ms)
  redis.call('PEXPIRE', members, p.storm_ms)
end

-- A list of the last `count` times: if all are within the window, this one is too many.
local function storm_of(f)
  local at, found = f.noise.at, nil
  for _, p in ipairs(f.noise.storms or {}) do
    local log = STORM .. p.key .. ':log'
    if may_keep(log, p.keep_ms) then
      local oldest = tonumber(redis.call('LINDEX', log, p.count - 1) or '')
      redis.call('LPUSH', log, at)
      redis.call('LTRIM', log, 0, p.count - 1)
      redis.call('PEXPIRE', log, p.keep_ms)
      if oldest and oldest > at - p.window and not found then found = p end
    end
  end
  if not found then return nil end
  add_to_storm(f, found)
  return 'storm:' .. found.id
end
