local keys = {}
for at = 6, #ARGV, 4 do keys[#keys + 1] = ARGV[at] end
local records, answers = open(keys), {}
for place, key in ipairs(keys) do
  local at = 2 + place * 4
  local slot, token, ttl = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local entry = records[key]
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
