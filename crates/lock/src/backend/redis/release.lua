local keys = {}
for at = 6, #ARGV, 3 do keys[#keys + 1] = ARGV[at] end
local records, answers = open(keys), {}
for place, key in ipairs(keys) do
  local at = 3 + place * 3
  local slot, token = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local entry = records[key]
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
