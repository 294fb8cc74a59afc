-- What write.lua and history.lua share; it stands before each of them.
--
-- Lua's numbers are doubles, so a 64-bit time is compared as its two halves, the upper one signed, unless its double tells already. A stored value that begins like
-- the canonical encoding is read at its known places, any other by walking its fields, and one that is not a StoredRow is replaced.

local function varint(value, at)
  local number, scale = 0, 1
  for _ = 1, 10 do
    local byte = string.byte(value, at)
    if not byte then return nil end
    at = at + 1
    number = number + (byte % 128) * scale
    if byte < 128 then return number, at end
    scale = scale * 128
  end
  return nil
end

-- Returns the halves of event time, created time and fingerprint: low, high, low, high, low, high. As everywhere, a row has
-- fingerprint 0 if and only if it is a tombstone (field 7).
local function walk(value)
  local h = {[1] = {0, 0}, [2] = {0, 0}, [3] = {0, 0}}
  local tombstone = false
  local at, size = 1, #value
  while at <= size do
    local tag, length
    tag, at = varint(value, at)
    if not tag then return nil end
    local field, wire = math.floor(tag / 8), tag % 8
    if wire == 1 then
      if at + 7 > size then return nil end
      if h[field] then h[field] = {struct.unpack('<I4i4', value, at)} end
      at = at + 8
    elseif wire == 0 then
      length, at = varint(value, at)
      if not length then return nil end
      if field == 7 then tombstone = length ~= 0 end
    elseif wire == 2 then
      length, at = varint(value, at)
      if not length then return nil end
      at = at + length
    elseif wire == 5 then
      at = at + 4
    else
      return nil
    end
  end
  if at ~= size + 1 or tombstone ~= (h[3][1] == 0 and h[3][2] == 0) then return nil end
  return h[1][1], h[1][2], h[2][1], h[2][2], h[3][1], h[3][2]
end

-- Everything that stands at known places, tags and halves, in one go.
local known = '<BI4i4BI4i4BI4i4'

local function header(value)
  if #value >= 27 then
    local event, eventLow, eventHigh, created, createdLow, createdHigh, fingerprint, fingerprintLow, fingerprintHigh = struct.unpack(known, value)
    if event == 9 and created == 17 and fingerprint == 25 and (fingerprintLow ~= 0 or fingerprintHigh ~= 0) then
      return eventLow, eventHigh, createdLow, createdHigh, fingerprintLow, fingerprintHigh
    end
  end
  return walk(value)
end

-- What tells most rows apart: as doubles, whose order is that of the times unless they are rounded to the same.
local front, frontEvent = '<Bi8Bi8B', '<Bi8'

-- Whether a row replaces a stored one.
local function replaces(new, old)
  if #old >= 27 and #new >= 9 then
    local event, oldTime, created, _, fingerprint = struct.unpack(front, old)
    local newEvent, newTime = struct.unpack(frontEvent, new)
    if newTime > oldTime and newEvent == 9 and event == 9 and created == 17 and fingerprint == 25 then return true end
  end
  local oel, oeh, ocl, och, ofl, ofh = header(old)
  if not oel then return true end
  local nel, neh, ncl, nch, nfl, nfh = header(new)
  if neh ~= oeh then return neh > oeh end
  if nel ~= oel then return nel > oel end
  if nch ~= och then return nch > och end
  if ncl ~= ocl then return ncl > ocl end
  -- At equal times only a row that would replace a tombstone (fingerprint 0) is kept out.
  local oldIsTombstone, newIsTombstone = ofl == 0 and ofh == 0, nfl == 0 and nfh == 0
  return newIsTombstone or not oldIsTombstone
end

-- PEXPIRETIME came with Redis 7.
local hasExpireTime = redis.REDIS_VERSION_NUM and redis.REDIS_VERSION_NUM >= 0x070000

-- Returns when a key expires, in milliseconds since the Unix epoch; -1 is never, -2 that there is no such key.
local function expireTime(key)
  if hasExpireTime then return redis.call('PEXPIRETIME', key) end
  local left = redis.call('PTTL', key)
  if left < 0 then return left end
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) + left
end
