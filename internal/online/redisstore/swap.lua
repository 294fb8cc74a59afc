-- Stores a small value if and only if what is stored is what the caller expects, as one atomic step.
--
-- KEYS[1] is its key. ARGV[1] is '1' where ARGV[2] is expected, '0' where nothing is; ARGV[3] is '1' where ARGV[4] is to be stored, '0' where
-- nothing is to be left. The answer is 1 where that is so now, be it by this call or by one before, else 0.

local function given(i)
  return ARGV[i] == '1' and ARGV[i + 1]
end

local stored, expected, wanted = redis.call('GET', KEYS[1]), given(1), given(3)
if stored == wanted then return 1 end
if stored ~= expected then return 0 end
if wanted then
  redis.call('SET', KEYS[1], wanted)
else
  redis.call('DEL', KEYS[1])
end
return 1
