-- Removes each row, or history, of which the event time, or that of the newest version, is before a moment, as one atomic step.
--
-- KEYS[i] holds row i; ARGV holds for each row its view, '' where the key is a history, and the moment, 8 bytes little-endian. The answer is one character a
-- row: 1 removed, 2 spared or not there. row.lua stands before this.

-- Returns the stored row, or the newest version without what may stand in front of it; nil where there is none.
local function stored(key, view)
  if view ~= '' then return redis.call('HGET', key, view) end
  local newest = redis.call('ZREVRANGE', key, 0, 0)[1]
  if newest and string.byte(newest, 1) == 0 then return string.sub(newest, 10) end
  return newest
end

-- Whether a row is from before a moment; not, where it is so damaged that nobody can tell.
local function isBefore(row, low, high)
  local eventLow, eventHigh = header(row)
  if not eventLow then return false end
  if eventHigh ~= high then return eventHigh < high end
  return eventLow < low
end

local out = {}
for i = 1, #KEYS do
  local key, view = KEYS[i], ARGV[2 * i - 1]
  local low, high = struct.unpack('<I4i4', ARGV[2 * i])
  local row = stored(key, view)
  out[i] = '2'
  if row and isBefore(row, low, high) then
    out[i] = '1'
    if view ~= '' then redis.call('HDEL', key, view) else redis.call('DEL', key) end
  end
end
return table.concat(out)
