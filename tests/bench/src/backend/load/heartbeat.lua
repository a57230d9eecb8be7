-- Heartbeats of many servers in turn, each with a sequence that grows. From before: servers, headers, since.
local at, sequence

function setup(thread)
	thread:set("first", threads or 0)
	threads = (threads or 0) + 1
end

function init()
	wrk.headers = merged(wrk.headers, headers)
	-- Two threads share the servers: one has the odd ones.
	at, sequence = first - 1, since
end

function request()
	at = at + 2
	if at >= #servers then
		at, sequence = first + 1 - 1, sequence + 1
	end
	local body = '{"sequence":' .. string.format("%.0f", sequence) .. ',"status":"ready","players":' .. at % 16 .. '}'
	return wrk.format("POST", "/v1/servers/" .. servers[at + 1] .. "/heartbeat", nil, body)
end
