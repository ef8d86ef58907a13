-- What the scripts of a tag share. KEYS[1] is its hash; ARGV begins with the
-- identity of this server, how long it grants nothing after a change of that,
-- for how long a free key is kept for who is next, what the channels of
-- processes begin with, and whether a process that hears nothing is not there
-- any more. Times are microseconds of this server's clock.
local hash, server, bar, claim = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local channels, is_counted = ARGV[4], ARGV[5] == '1'
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- The fields of a grant, and of who waits.
local TOKEN, SHAPE, OF, SLOT, PROCESS, LABEL = 1, 2, 3, 4, 5, 6
local SINCE, EXPIRES, LEAST, MOST, IS_KEPT, NONCE = 7, 8, 9, 10, 11, 12
local WHO, LANE, WANTS, WANTS_OF, FROM, HEARS = 1, 2, 3, 4, 5, 6
-- The parts of a record: grants, line, until when it is kept for the first.
local GRANTS, LINE, KEPT = 1, 2, 3

local function whole(number) return string.format('%.0f', number) end

local function field(key) return 'k:' .. key end

-- Notes another server, or one that has lost its data, and answers until when
-- nothing is granted.
local function barred_until(known, till)
  if known == server then
    till = tonumber(till) or 0
    -- Once it is over it must not come back with a clock that is set back.
    if till > 0 and till <= now then
      redis.call('HSET', hash, 'until', '0')
      till = 0
    end
    return till
  end
  till = bar > 0 and now + bar or 0
  redis.call('HSET', hash, 'run', server, 'until', whole(till))
  return till
end

local function read(raw)
  if raw then return cmsgpack.unpack(raw) end
  return {{}, {}, 0}
end

local function write(key, record)
  if #record[GRANTS] == 0 and #record[LINE] == 0 then
    redis.call('HDEL', hash, field(key))
  else
    redis.call('HSET', hash, field(key), cmsgpack.pack(record))
  end
end

-- Whether one more of this shape leaves the others what is theirs.
local function fits(grants, shape, of)
  if shape == 'w' then return #grants == 0 end
  if shape == 'p' and #grants >= of then return false end
  for _, grant in ipairs(grants) do
    if grant[SHAPE] ~= shape then return false end
  end
  return true
end

-- Keeps a grant for what is left of its least time.
local function keep(grant)
  if grant[LEAST] <= now then return false end
  grant[IS_KEPT], grant[EXPIRES] = 1, grant[LEAST]
  return true
end

local function tell(process, what) return redis.call('PUBLISH', channels .. process, what) end

-- Who is behind the first asks by itself if that one does not come.
local function tell_later(key, other, span)
  if other then
    tell(other[WHO], 'later ' .. whole(other[LANE]) .. ' ' .. whole(span) .. ' ' .. key)
  end
end

local function tell_free(key, first)
  local heard = tell(first[WHO], 'free ' .. whole(first[LANE]) .. ' ' .. key)
  return heard > 0 or not is_counted or first[HEARS] == 0
end

-- Lets go of what is over, keeps a free key for who is next, and answers
-- whether the record has changed.
local function settle(key, record)
  local grants, line, changed = record[GRANTS], record[LINE], false
  for place = #grants, 1, -1 do
    if now >= grants[place][EXPIRES] then
      changed = true
      if not keep(grants[place]) then table.remove(grants, place) end
    end
  end
  while line[1] and fits(grants, line[1][WANTS], line[1][WANTS_OF]) do
    if record[KEPT] > now then return changed end
    changed = true
    if record[KEPT] == 0 and tell_free(key, line[1]) then
      record[KEPT] = now + claim
      tell_later(key, line[2], claim)
      return true
    end
    -- It did not come in time, or is not there any more.
    table.remove(line, 1)
    record[KEPT] = 0
  end
  changed = changed or record[KEPT] ~= 0
  record[KEPT] = 0
  return changed
end

local function place_in(line, process, lane)
  for place, other in ipairs(line) do
    if other[WHO] == process and other[LANE] == lane then return place end
  end
end

-- The records of the keys that a batch names, each settled once before and
-- once after.
local function open(keys)
  local fields = {'run', 'until'}
  for _, key in ipairs(keys) do fields[#fields + 1] = field(key) end
  local found = redis.call('HMGET', hash, unpack(fields))
  barred_until(found[1], found[2])
  local records = {}
  for place, key in ipairs(keys) do
    if found[place + 2] and not records[key] then
      local record = read(found[place + 2])
      records[key] = {record, settle(key, record)}
    end
  end
  return records
end

local function close(records)
  for key, entry in pairs(records) do
    if settle(key, entry[1]) or entry[2] then write(key, entry[1]) end
  end
end
