-- Batches of saves of many players in turn, each with a sequence that grows. From before: batches (texts in which @ stands for the
-- sequence), headers, since.
local cut, at, sequence = {}, 0, 0

function setup(thread)
	thread:set("first", threads or 0)
	threads = (threads or 0) + 1
end

function init()
	wrk.headers = merged(wrk.headers, headers)
	for index = first + 1, #batches, 2 do
		local parts = {}
		for part in string.gmatch(batches[index], "[^@]+") do
			parts[#parts + 1] = part
		end
		cut[#cut + 1] = parts
	end
	sequence = since
end

function request()
	at = at + 1
	if at > #cut then
		at, sequence = 1, sequence + 1
	end
	return wrk.format("POST", "/v1/players/save", nil, table.concat(cut[at], string.format("%.0f", sequence)))
end
