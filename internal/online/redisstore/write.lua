-- Stores each row unless the stored row of its key and view is newer, as one atomic step.
--
-- KEYS[i] is the entity of row i; ARGV holds for each row its view, its value (a StoredRow in the canonical encoding) and the
-- time in milliseconds from which it may be dropped ('0': never). The answer is one character a row: 1 written, 2 older, 3 unchanged.
-- row.lua stands before this.

-- A key lives as long as the view that lives longest; a key of one view lives exactly as long as that view's row.
local function expire(key, at)
  local present = expireTime(key)
  if at == '0' then
    if present >= 0 then redis.call('PERSIST', key) end
    return
  end
  local wanted = tonumber(at)
  if present == wanted then return end
  if (present >= 0 and wanted > present) or redis.call('HLEN', key) == 1 then
    redis.call('PEXPIREAT', key, at)
  end
end

local out = {}
for i = 1, #KEYS do
  local key, view, new, at = KEYS[i], ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local old = redis.call('HGET', key, view)
  if old == new then
    out[i] = '3'
    expire(key, at)
  elseif old and not replaces(new, old) then
    out[i] = '2'
  else
    local isNew = not old and redis.call('EXISTS', key) == 0
    redis.call('HSET', key, view, new)
    out[i] = '1'
    if isNew then
      if at ~= '0' then redis.call('PEXPIREAT', key, at) end
    else
      expire(key, at)
    end
  end
end
return table.concat(out)
