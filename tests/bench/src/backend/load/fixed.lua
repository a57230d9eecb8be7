-- The same requests in turn. From before: requests, headers.
local prepared, at = {}, 0

function setup(thread)
	thread:set("first", threads or 0)
	threads = (threads or 0) + 1
end

function init()
	wrk.headers = merged(wrk.headers, headers)
	for index, one in ipairs(requests) do
		prepared[index] = wrk.format(one.method, one.path, nil, one.body)
	end
	-- Two threads begin at different ones.
	at = first * math.floor(#prepared / 2)
end

function request()
	at = at % #prepared + 1
	return prepared[at]
end
