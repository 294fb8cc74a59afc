-- Stores each row unless the stored row of its key and view is newer, as one atomic step.
--
-- KEYS[i] is the entity of row i; ARGV[1] is the view of all rows. Then ARGV holds for each row its value (a StoredRow in the canonical encoding) and the
-- time in milliseconds from which it may be dropped ('0': never). The answer is one character a row: 1 written, 2 older, 3 unchanged.
-- row.lua stands before this.
--
-- Redis serves nobody else meanwhile, and most of the time goes into its commands: an entity that is not stored at all, the usual one of a first load, takes three.

local call = redis.call

-- A key lives as long as the view that lives longest; a key of one view lives exactly as long as that view's row. present is when it expires now.
local function expire(key, present, at)
  if at == '0' then
    if present >= 0 then call('PERSIST', key) end
    return
  end
  local wanted = tonumber(at)
  if present == wanted then return end
  if (present >= 0 and wanted > present) or call('HLEN', key) == 1 then
    call('PEXPIREAT', key, at)
  end
end

local out, view = {}, ARGV[1]
for i = 1, #KEYS do
  local key, new, at = KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]
  local present = expireTime(key)
  if present == -2 then
    call('HSET', key, view, new)
    if at ~= '0' then call('PEXPIREAT', key, at) end
    out[i] = '1'
  else
    local old = call('HGET', key, view)
    if old == new then
      out[i] = '3'
      expire(key, present, at)
    elseif old and not replaces(new, old) then
      out[i] = '2'
    else
      call('HSET', key, view, new)
      out[i] = '1'
      expire(key, present, at)
    end
  end
end
return table.concat(out)
