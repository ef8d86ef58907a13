barred_until()
local found = redis.call('HSCAN', hash, ARGV[3], 'MATCH', 'k:*', 'COUNT', ARGV[4])
for place = 1, #found[2], 2 do
  local field, record = found[2][place], read(found[2][place + 1])
  if settle(field, record) then write(field, record) end
end
return found[1]
