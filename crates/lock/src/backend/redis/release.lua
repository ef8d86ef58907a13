local fields = {}
for at = 1, #ARGV - 1, 2 do fields[#fields + 1] = ARGV[at] end
local records, answers = open(fields), {}
for place, field in ipairs(fields) do
  local token, slot = claimed(ARGV[place * 2])
  local entry = records[field]
  local grants = entry and entry[1][GRANTS] or {}
  answers[place] = #grants == 0 and 0 or 2
  for index, grant in ipairs(grants) do
    if grant[TOKEN] == token and grant[SLOT] == slot then
      if not keep(grant) then table.remove(grants, index) end
      answers[place], entry[2] = 1, true
      break
    end
  end
end
close(records)
return answers
