local field, asked = ARGV[2], parse(ARGV[3])
local mode, shape, of = asked.mode, asked.shape, asked.of
local ttl, least, most = asked.ttl, asked.least, asked.most
local process, lane, label, nonce = asked.process, asked.lane, asked.label, asked.nonce

local till, last = 0, tonumber(head[1])
if not last then till, last = barred_until() end
local record = read(head[2])
local changed = head[2] and settle(field, record)
local grants, line = record[GRANTS], record[LINE]

-- The same question again, whose first answer was lost: the grant begins anew,
-- as its holder counts it.
for _, grant in ipairs(grants) do
  if grant[PROCESS] == process and grant[NONCE] == nonce and grant[IS_KEPT] == 0 then
    grant[MOST] = most > 0 and now + most or 0
    grant[EXPIRES] = most > 0 and math.min(now + ttl, now + most) or now + ttl
    write(field, record)
    return {1, grant[TOKEN], grant[SLOT]}
  end
end
if now < till then
  if changed then write(field, record) end
  return {2, till - now}
end

local function register(wants, wants_of)
  local known = line[place_in(line, process, lane) or 0]
  if not known then
    line[#line + 1] = {process, lane, wants, wants_of, now, asked.hears}
    changed = true
  elseif known[WANTS] ~= wants or known[WANTS_OF] ~= wants_of or known[HEARS] ~= asked.hears then
    known[WANTS], known[WANTS_OF], known[HEARS] = wants, wants_of, asked.hears
    changed = true
  end
end

-- Reads may pass reads; else who is ahead goes first.
local own = mode == 'w' and place_in(line, process, lane)
local function is_free()
  if not fits(grants, shape, of) then return false end
  for place = 1, own and own - 1 or #line do
    if shape ~= 'r' or line[place][WANTS] ~= 'r' then return false end
  end
  return true
end

local stolen = {}
if mode == 's' then
  stolen, grants = grants, {}
  record[GRANTS] = grants
end

if mode == 's' or is_free() then
  local token = math.max(last + 1, now)
  local slot, was_next = -1, false
  if shape == 'p' then
    local taken = {}
    for _, grant in ipairs(grants) do taken[grant[SLOT]] = true end
    slot = 0
    while taken[slot] do slot = slot + 1 end
  end
  if own then
    table.remove(line, own)
    if own == 1 then record[KEPT] = 0 end
    was_next = own == 1
  end
  local ends = most > 0 and now + most or 0
  local expires = most > 0 and math.min(now + ttl, ends) or now + ttl
  grants[#grants + 1] = {
    token, shape, of, slot, process, label, now, expires, least > 0 and now + least or 0, ends, 0,
    nonce,
  }
  if asked.next_shape ~= 'n' then register(asked.next_shape, asked.next_of) end
  if #line > 0 then
    settle(field, record)
    if was_next and record[KEPT] == 0 then tell_later(field, line[1], expires - now) end
  end
  redis.call('HSET', hash, server, whole(token), field, cmsgpack.pack(record))
  for _, grant in ipairs(stolen) do
    local claim_text = whole(grant[TOKEN]) .. ' ' .. whole(grant[SLOT]) .. ' ' .. key_of(field)
    tell(grant[PROCESS], 'lost ' .. claim_text)
  end
  return {1, token, slot}
end

if mode == 'w' then register(shape, of) end
local first = line[1]
local is_next = first and record[KEPT] ~= 0 and fits(grants, shape, of)
local ends
if is_next then ends = record[KEPT] end
for _, grant in ipairs(is_next and {} or grants) do
  local pick = shape == 'p' and math.min or math.max
  ends = pick(ends or grant[EXPIRES], grant[EXPIRES])
end
local answer = {0, math.max((ends or now + claim) - now, 0)}
local function add(...)
  for _, value in ipairs({...}) do answer[#answer + 1] = value end
end
local held = not is_next and grants[1]
if held then
  add(held[PROCESS], held[LABEL], held[SHAPE], held[OF], held[SINCE], held[EXPIRES] - now)
  add(held[IS_KEPT], held[TOKEN])
else
  local who = first or {process, lane, shape, of, now}
  add(who[WHO], '', who[WANTS], who[WANTS_OF], who[FROM], math.max(record[KEPT] - now, 0), 2, 0)
end
if settle(field, record) or changed then write(field, record) end
return answer
