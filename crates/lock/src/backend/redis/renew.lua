barred_until()
local fields = {}
for at = 3, #ARGV, 3 do fields[#fields + 1] = ARGV[at] end
local records, answers = open(fields), {}
for place, field in ipairs(fields) do
  local token, slot = claimed(ARGV[place * 3 + 1])
  local ttl = tonumber(ARGV[place * 3 + 2])
  local entry = records[field]
  answers[place] = 0
  for _, grant in ipairs(entry and entry[1][GRANTS] or {}) do
    if grant[TOKEN] == token and grant[SLOT] == slot and grant[IS_KEPT] == 0 then
      local till = now + ttl
      if grant[MOST] > 0 then till = math.min(till, grant[MOST]) end
      if till > grant[EXPIRES] then grant[EXPIRES], entry[2] = till, true end
      answers[place] = 1
    end
  end
end
close(records)
return answers
