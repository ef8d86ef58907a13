barred_until()
local field, process, lane, nonce = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local records = open({field})
local entry = records[field]
if not entry then return 0 end
local record = entry[1]
local place = lane >= 0 and place_in(record[LINE], process, lane)
if place then
  table.remove(record[LINE], place)
  if place == 1 then record[KEPT] = 0 end
  entry[2] = true
end
for index, grant in ipairs(record[GRANTS]) do
  if grant[PROCESS] == process and grant[NONCE] == nonce then
    table.remove(record[GRANTS], index)
    entry[2] = true
    break
  end
end
close(records)
return entry[2] and 1 or 0
