local found = redis.call('HSCAN', hash, ARGV[3], 'MATCH', ARGV[4], 'COUNT', ARGV[5])
local keys = {}
for place = 1, #found[2], 2 do
  local record = read(found[2][place + 1])
  local held = {key_of(found[2][place]), #record[LINE]}
  for _, grant in ipairs(record[GRANTS]) do
    if now < math.max(grant[EXPIRES], grant[LEAST]) then
      held[#held + 1] = {
        grant[PROCESS], grant[LABEL], grant[SHAPE], grant[OF], grant[SINCE],
        math.max(grant[EXPIRES] - now, 0), grant[IS_KEPT], grant[TOKEN],
      }
    end
  end
  if #held > 2 or held[2] > 0 then keys[#keys + 1] = held end
end
return {found[1], keys}
