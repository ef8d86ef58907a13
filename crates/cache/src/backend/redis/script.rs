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
/// Answers `{0, place}` for a refused condition, `{1, replies}`, or
/// `{2, token}` for a fence that is too old. Numbers above 2^53 would lose
/// digits on their way through Lua, so sums are read again as text.
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

local replies = {}
if not kept then
  while at < #ARGV do
    local action, life, name, count = text(), text(), key(), number()
    local command = {}
    for value = 1, count do command[value] = text() end
    local fresh = action == 'new' and redis.call('EXISTS', name) == 0
    local reply
    local word = command[1]
    if word == 'TIME' then reply = redis.call('TIME')
    elseif word == 'RANK' then
      local score = redis.pcall('ZSCORE', name, command[3])
      if type(score) == 'string' then reply = {redis.call(command[2], name, command[3]), score}
      else reply = score end
    else
      table.insert(command, 2, name)
      reply = redis.pcall(unpack(command))
      local failed = type(reply) == 'table' and reply.err
      if not failed then
        if word == 'HSETNX' and reply == 0 then -- refused: the lifetime stays
        elseif action == 'after' or fresh then redis.call('PEXPIRE', name, life)
        elseif action == 'never' then redis.call('PERSIST', name) end
        if word == 'INCRBY' then reply = redis.call('GET', name)
        elseif word == 'HINCRBY' then reply = redis.call('HGET', name, command[3]) end
      end
    end
    replies[#replies + 1] = reply
  end
end

if token > 0 then
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
if kept then return {0, kept} end
return {1, replies}
";

pub(super) static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(RUN));
pub(super) static READ: LazyLock<Script> = LazyLock::new(|| Script::read_only(RUN));
