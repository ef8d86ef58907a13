local head = redis.call('HMGET', hash, 'run', 'until')
barred_until(head[1], head[2])
local found = redis.call('HSCAN', hash, ARGV[6], 'MATCH', 'k:*', 'COUNT', ARGV[7])
for place = 1, #found[2], 2 do
  local key, record = string.sub(found[2][place], 3), read(found[2][place + 1])
  if settle(key, record) then write(key, record) end
end
return found[1]
