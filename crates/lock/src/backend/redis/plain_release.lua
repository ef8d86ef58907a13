-- What most releases need: one claim of a plain grant, with whose token and 'P'
-- the record begins, before its ttl in twelve digits. Nobody waits for its key,
-- and it has no least time.
if not ARGV[4] then
  local token = ARGV[2]
  local record = redis.call('HGET', KEYS[1], ARGV[1])
  if record and string.sub(record, 1, #token) == token then
    local clock = redis.call('TIME')
    local ttl = string.sub(record, #token + 1, #token + 12)
    if clock[1] * 1000000 + clock[2] < string.sub(token, 1, -2) + ttl then
      return redis.call('HDEL', KEYS[1], ARGV[1])
    end
  end
end
local server, settings = nil, ARGV[#ARGV]
