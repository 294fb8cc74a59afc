-- Adds each row to the versions of its entity and view, as one atomic step.
--
-- KEYS[i] is the history of row i; ARGV holds for each row its score, its member, how many versions are kept, and the time in
-- milliseconds from which it may be dropped ('0': never). The answer is one character a row: 1 written, 2 older, 3 unchanged.
-- row.lua stands before this. history.go says what scores and members are.

local DROPPED = 'dropped'

-- Returns 1 where the history begins with the mark that older versions were dropped, else 0.
local function marked(key)
  return redis.call('ZSCORE', key, DROPPED) and 1 or 0
end

local function mark(key)
  redis.call('ZADD', key, '-inf', DROPPED)
end

-- Drops the oldest of so many versions until n are left.
local function drop(key, versions, n, marks)
  redis.call('ZREMRANGEBYRANK', key, marks, marks + versions - n - 1)
  if marks == 0 then mark(key) end
end

-- Drops the oldest versions until at most n are left. Returns how many members there are, and how many of them are marks (1 or 0): nil
-- where there are less than n members, since it matters to few then.
local function trim(key, n)
  local members = redis.call('ZCARD', key)
  if members < n then return members, nil end
  local marks = marked(key)
  if members - marks <= n then return members, marks end
  drop(key, members - marks, n, marks)
  return n + 1, 1
end

-- Returns the event time of a member that has it in front, else nil; and its row.
local function split(member)
  if string.byte(member, 1) == 0 then return string.sub(member, 1, 9), string.sub(member, 10) end
  return nil, member
end

-- Returns the stored member of the same event time as the given one. Members of one score differ in what they have in front.
local function sameTime(key, score, member)
  local wanted = split(member)
  for _, stored in ipairs(redis.call('ZRANGEBYSCORE', key, score, score)) do
    if split(stored) == wanted then return stored end
  end
  return nil
end

local now -- milliseconds since the Unix epoch, asked for once

local function isPast(at)
  if at == '0' then return false end
  if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return tonumber(at) <= now
end

-- A history lives as long as the version that lives longest; one of a single version exactly as long as that.
local function expire(key, at, single)
  local present = expireTime(key)
  if at == '0' then
    if present >= 0 then redis.call('PERSIST', key) end
  elseif present ~= tonumber(at) and (single or (present >= 0 and tonumber(at) > present)) then
    redis.call('PEXPIREAT', key, at)
  end
end

-- Adds a version whose event time none of the versions has to so many members. Reports whether it stays.
local function add(key, score, member, n, at, members, marks)
  redis.call('ZADD', key, score, member)
  if members == 0 then return true end
  if isPast(at) and redis.call('ZRANK', key, member) == (marks or marked(key)) then
    redis.call('ZREM', key, member)
    mark(key)
    return false
  end
  if members < n or members - marks < n then return true end
  local stays = redis.call('ZREVRANK', key, member) < n
  drop(key, n + 1, n, marks)
  return stays
end

-- Puts a member in the place of the one of its event time, unless that is newer. Returns what became of it.
local function replace(key, score, old, member)
  if old == member then return '3' end
  local _, oldRow = split(old)
  local _, newRow = split(member)
  if not replaces(newRow, oldRow) then return '2' end
  redis.call('ZREM', key, old)
  redis.call('ZADD', key, score, member)
  return '1'
end

local out = {}
for i = 1, #KEYS do
  local key, score, member, n, at = KEYS[i], ARGV[4 * i - 3], ARGV[4 * i - 2], tonumber(ARGV[4 * i - 1]), ARGV[4 * i]
  local members, marks = trim(key, n)
  local old = members > 0 and sameTime(key, score, member)
  if not old then
    if add(key, score, member, n, at, members, marks) then
      out[i] = '1'
      expire(key, at, members == 0 or n == 1)
    else
      out[i] = '2'
    end
  else
    out[i] = replace(key, score, old, member)
    if out[i] ~= '2' then
      expire(key, at, members == 1 or (members == 2 and (marks or marked(key)) == 1))
    end
  end
end
return table.concat(out)
