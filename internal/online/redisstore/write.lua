-- Stores each row unless the stored row of its key and view is newer, as one atomic step.
--
-- KEYS[i] is the entity of row i; ARGV[1] is the view of all rows, ARGV[i + 1] the value of row i (a StoredRow in the canonical encoding). The last of ARGV holds, for all rows,
-- the times in milliseconds from which they may be dropped ('0': never), all as wide as the widest, with spaces before those that are narrower. As arguments of their own they
-- take the server longer to read than to cut here. The answer is one character a row: 1 written, 2 older, 3 unchanged. row.lua stands before this.
--
-- Redis serves nobody else meanwhile, and about half of the time goes into its commands. Where none of the entities is stored, as in a first load, a row takes two.

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

-- Stores one row, whatever is stored.
local function store(key, view, new, at)
  local old = call('HGET', key, view)
  if old and old ~= new then
    if not replaces(new, old) then return '2' end
    call('HSET', key, view, new)
    -- Mostly the new row lives longer than all that is stored of the key. GT came with Redis 7, as PEXPIRETIME did.
    if at == '0' or not hasExpireTime or call('PEXPIREAT', key, at, 'GT') == 0 then expire(key, expireTime(key), at) end
    return '1'
  end
  local present = expireTime(key)
  if present == -2 then
    call('HSET', key, view, new)
    if at ~= '0' then call('PEXPIREAT', key, at) end
    return '1'
  end
  if not old then call('HSET', key, view, new) end
  expire(key, present, at)
  return old and '3' or '1'
end

-- More keys than these are not asked for at once: what unpack can do is limited.
local mostAtOnce = 1000
-- Where the first is there, so are most others, and it is not worth to ask for them.
local none = #KEYS <= mostAtOnce and call('EXISTS', KEYS[1]) == 0 and call('EXISTS', unpack(KEYS)) == 0

-- Locals are found faster than the server's globals.
local keys, values, sub, view, times = KEYS, ARGV, string.sub, ARGV[1], ARGV[#ARGV]
local width, filled = #times / #keys, string.find(times, ' ', 1, true)
local out = {}
for i = 1, #keys do
  local key, new, at = keys[i], values[i + 1], sub(times, width * (i - 1) + 1, width * i)
  if filled then at = string.match(at, '%S+') end
  if none and call('HSETNX', key, view, new) == 1 then -- 0 where it is the second row of the key in this call
    if at ~= '0' then call('PEXPIREAT', key, at) end
    out[i] = '1'
  else
    out[i] = store(key, view, new, at)
  end
end
return table.concat(out)
