use std::sync::LazyLock;

use trine_redis::Script;

/// Runs operations as one step: shows a fence, checks conditions, then does
/// each operation and keeps its reply, whatever became of the others.
///
/// `KEYS[1]` is the mark of the fence if there is one. `ARGV` is read from the
/// beginning to the end: the token (0 without a fence), the retention of the
/// mark in ms, whether the guarded key lives alone; the number of conditions,
/// and of each its kind, key and values; then of each operation the action on
/// its lifetime, the lifetime in ms, its key, how many values follow, and its
/// command with them.
///
/// Answers `{0, place}` for a refused condition, `{1, replies}`, `{2, token}` for
/// a fence that is too old, or `{3, why}` for one that could not be kept after
/// something was written. A write that went only half way, without the lifetime
/// or the sum that belongs to it, has a reply with the code [`HALF`]: whatever
/// fails once something was written must not read as nothing written. Numbers
/// above 2^53 would lose digits on their way through Lua, so sums are read again
/// as text.
const RUN: &str = r"
local at = 0
local function text() at = at + 1; return ARGV[at] end
local function number() return tonumber(text()) end
local function key() return KEYS[number()] end

local token, retention, alone = number(), number(), number()
if token > 0 then
  local seen = redis.call('GET', KEYS[1])
  if seen and tonumber(seen) > token then return {2, seen} end
end

local kept
for place = 0, number() - 1 do
  local kind, name = text(), key()
  local holds
  if kind == 'absent' then holds = redis.call('EXISTS', name) == 0
  elseif kind == 'present' then holds = redis.call('EXISTS', name) == 1
  elseif kind == 'value' then holds = redis.pcall('GET', name) == text()
  elseif kind == 'field' then
    local field = text()
    holds = redis.pcall('HGET', name, field) == text()
  else holds = redis.pcall('HEXISTS', name, text()) == 0 end
  if not holds and not kept then kept = place end
end

local function failed(reply) return type(reply) == 'table' and reply.err end

local replies, wrote = {}, false
if not kept then
  while at < #ARGV do
    local action, life, name, count = text(), text(), key(), number()
    local command = {}
    for value = 1, count do command[value] = text() end
    local found = action == 'new' and redis.pcall('EXISTS', name)
    local reply
    local word = command[1]
    if failed(found) then reply = found
    elseif word == 'TIME' then reply = redis.pcall('TIME')
    elseif word == 'RANK' then
      reply = redis.pcall('ZSCORE', name, command[3])
      if type(reply) == 'string' then
        local rank = redis.pcall(command[2], name, command[3])
        reply = failed(rank) and rank or {rank, reply}
      end
    else
      table.insert(command, 2, name)
      reply = redis.pcall(unpack(command))
      if not failed(reply) then
        local looked = word == 'GET' or word == 'EXISTS'
        wrote = wrote or not (looked or action == 'read')
        local rest
        if word == 'HSETNX' and reply == 0 then -- refused: the lifetime stays
        elseif action == 'after' or found == 0 then rest = redis.pcall('PEXPIRE', name, life)
        elseif action == 'never' then rest = redis.pcall('PERSIST', name) end
        if not failed(rest) then
          wrote = wrote or rest ~= nil
          if word == 'INCRBY' then reply = redis.pcall('GET', name); rest = reply
          elseif word == 'HINCRBY' then
            reply = redis.pcall('HGET', name, command[3]); rest = reply
          end
        end
        if failed(rest) then
          reply = looked and rest or {err = 'HALFDONE ' .. rest.err}
        end
      end
    end
    replies[#replies + 1] = reply
  end
end

local function keep_mark()
  local last = redis.call('PTTL', KEYS[1])
  local life = retention
  if last == -1 and alone == 0 then life = -1 elseif last > life then life = last end
  for index = 2, #KEYS do
    local left = redis.call('PTTL', KEYS[index])
    if left == -1 then life = -1
    elseif left >= 0 and life >= 0 and left + retention > life then life = left + retention end
  end
  if life < 0 then redis.call('SET', KEYS[1], ARGV[1])
  else redis.call('SET', KEYS[1], ARGV[1], 'PX', string.format('%.0f', life)) end
end

if token > 0 and not wrote then keep_mark()
elseif token > 0 then
  local is_kept, why = pcall(keep_mark)
  if not is_kept then return {3, type(why) == 'table' and why.err or why} end
end
if kept then return {0, kept} end
return {1, replies}
";

/// What the reply begins with of an operation of which a part was done.
pub(super) const HALF: &str = "HALFDONE";

pub(super) static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(RUN));
pub(super) static READ: LazyLock<Script> = LazyLock::new(|| Script::read_only(RUN));
