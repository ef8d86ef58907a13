-- What most questions need, before anything is made for the others: the tag is
-- open, the key is free, and the question may be granted as it is. ARGV[2] is
-- the field of the key and ARGV[3] the question, 'P' in front if it may.
local head = redis.call('HMGET', KEYS[1], ARGV[1], ARGV[2])
if head[1] and not head[2] and string.byte(ARGV[3]) == 80 then
  local clock = redis.call('TIME')
  local token = clock[1] .. string.sub('00000' .. clock[2], -6)
  -- Texts of one width compare as numbers. Never below what was granted, also
  -- if the clock was set back.
  if token > head[1] and #token == #head[1] then
    redis.call('HSET', KEYS[1], ARGV[1], token, ARGV[2], token .. ARGV[3])
    return token
  end
end
local server, settings = ARGV[1], string.match(ARGV[3], ' (.*)')
