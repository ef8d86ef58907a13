-- What the scripts of a tag share. KEYS[1] is its hash. `server` is the identity
-- of this server where a script has it, and `settings` begins with how long it
-- grants nothing after a change of that, for how long a free key is kept for who
-- is next, and whether a process that hears nothing is not there any more. Times
-- are microseconds of this server's clock.
local hash = KEYS[1]
local bar, claim, is_counted = string.match(settings, '^(%d+) (%d+) (%d)')
bar, claim, is_counted = tonumber(bar), tonumber(claim), is_counted == '1'
-- The key is what the channels of processes begin with, and the tag in braces.
local channels = string.sub(hash, 1, -5)
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- The fields of a grant, and of who waits.
local TOKEN, SHAPE, OF, SLOT, PROCESS, LABEL = 1, 2, 3, 4, 5, 6
local SINCE, EXPIRES, LEAST, MOST, IS_KEPT, NONCE = 7, 8, 9, 10, 11, 12
local WHO, LANE, WANTS, WANTS_OF, FROM, HEARS = 1, 2, 3, 4, 5, 6
-- The parts of a record: grants, line, until when it is kept for the first.
local GRANTS, LINE, KEPT = 1, 2, 3

local function whole(number) return string.format('%.0f', number) end

-- Notes another server, or one that has lost its data, and answers until when
-- nothing is granted, and the last token. Once that time is over, the field with
-- the name of the server has the token: it must not come back with a clock that
-- is set back.
local function barred_until()
  local head = redis.call('HMGET', hash, server, 'run', 'until', 'last')
  if head[1] then return 0, tonumber(head[1]) end
  local run, till, last = head[2], tonumber(head[3]) or 0, head[4]
  if run ~= server then
    local open = run and redis.call('HGET', hash, run)
    if open then
      redis.call('HDEL', hash, run)
      last = open
    end
    last = last or '0000000000000000'
    till = now + bar
    redis.call('HSET', hash, 'run', server, 'until', whole(till), 'last', last)
  end
  if till <= now then
    redis.call('HSET', hash, server, last)
    redis.call('HDEL', hash, 'until', 'last')
    till = 0
  end
  return till, tonumber(last)
end

-- What a question says: its letter, the ttl, the settings, and the rest in this
-- order. The texts at its end have any bytes.
local QUESTION =
  '^%a(%d+) %d+ %d+ %d (%a)(%a)(%a) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d+) (%d+) ()'
local function parse(text)
  local ttl, mode, shape, next_shape, of, next_of, least, most, lane, hears, nonce, length, from =
    string.match(text, QUESTION)
  local till = from + length
  return {
    mode = mode, shape = shape, of = tonumber(of),
    next_shape = next_shape, next_of = tonumber(next_of),
    ttl = tonumber(ttl), least = tonumber(least), most = tonumber(most),
    lane = tonumber(lane), hears = tonumber(hears), nonce = nonce,
    process = string.sub(text, from, till - 1), label = string.sub(text, till),
  }
end

-- A record is MessagePack, or one plain grant: its token, which was the time,
-- and its question.
local function read(raw)
  if not raw then return {{}, {}, 0} end
  if string.byte(raw) >= 128 then return cmsgpack.unpack(raw) end
  local token, text = string.match(raw, '^(%d+)(.*)$')
  local asked = parse(text)
  token = tonumber(token)
  return {
    {{
      token, 'w', 0, -1, asked.process, asked.label, token, token + asked.ttl, 0, 0, 0, asked.nonce,
    }},
    {},
    0,
  }
end

-- Which grant a claim means: its token, and 'P' or the number of its permit.
local function claimed(text)
  local token, slot = string.match(text, '^(%d+)(.*)$')
  return tonumber(token), slot == 'P' and -1 or tonumber(string.sub(slot, 2))
end

local function write(field, record)
  if #record[GRANTS] == 0 and #record[LINE] == 0 then
    redis.call('HDEL', hash, field)
  else
    redis.call('HSET', hash, field, cmsgpack.pack(record))
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

-- The field of a key is 'k:' and the key.
local function key_of(field) return string.sub(field, 3) end

local function tell(process, what) return redis.call('PUBLISH', channels .. process, what) end

-- Who is behind the first asks by itself if that one does not come.
local function tell_later(field, other, span)
  if other then
    tell(other[WHO], 'later ' .. whole(other[LANE]) .. ' ' .. whole(span) .. ' ' .. key_of(field))
  end
end

local function tell_free(field, first)
  local heard = tell(first[WHO], 'free ' .. whole(first[LANE]) .. ' ' .. key_of(field))
  return heard > 0 or not is_counted or first[HEARS] == 0
end

-- Lets go of what is over, keeps a free key for who is next, and answers
-- whether the record has changed.
local function settle(field, record)
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
    if record[KEPT] == 0 and tell_free(field, line[1]) then
      record[KEPT] = now + claim
      tell_later(field, line[2], claim)
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

-- The records in the fields that a batch names, each settled once before and
-- once after.
local function open(fields)
  local found = redis.call('HMGET', hash, unpack(fields))
  local records = {}
  for place, field in ipairs(fields) do
    if found[place] and not records[field] then
      local record = read(found[place])
      records[field] = {record, settle(field, record)}
    end
  end
  return records
end

local function close(records)
  for field, entry in pairs(records) do
    if settle(field, entry[1]) or entry[2] then write(field, entry[1]) end
  end
end
