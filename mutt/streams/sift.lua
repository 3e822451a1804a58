#!lua flags=no-writes
-- sift: looks at a page of a dead-letter stream: how many letters have each reason, and which have the one that is
-- asked for. What the letters hold stays here: a hundred thousand of them are counted without being carried around.
local o = cmsgpack.unpack(ARGV[1])

-- The reason under which a letter is counted. Numbers in what ingest says ("is 300 characters long") would make a
-- group of each letter.
local function group(why)
  local known, told = pcall(cjson.decode, why)
  local reason = known and type(told) == 'table' and type(told.reason) == 'string' and told.reason or ''
  if reason == '' then return 'unknown' end
  return o.numbers and reason or (string.gsub(reason, '%d+', 'N'))
end

local page = redis.call('XRANGE', o.stream, o.start, o.stop, 'COUNT', o.count)
local counts, found, last = {}, {}, ''
for _, entry in ipairs(page) do
  local head, why = {}, ''
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name ~= 'd' then head[#head + 1], head[#head + 2] = name, value end
    if name == 'why' then why = value end
  end
  local reason = group(why)
  counts[reason] = (counts[reason] or 0) + 1
  last = entry[1]
  if not o.group or o.group == reason then
    found[#found + 1] = {entry[1], o.heads and head or {}}
    if #found == o.want then break end
  end
end

local told = {}
for reason, n in pairs(counts) do told[#told + 1] = {reason, n} end
return {last, #page, told, found}
