-- Refresh tokens, each traded for the next. From before: tokens, headers.
local waiting = {}

function setup(thread)
	thread:set("first", threads or 0)
	threads = (threads or 0) + 1
end

function init()
	wrk.headers = merged(wrk.headers, headers)
	for index = first + 1, #tokens, 2 do
		waiting[#waiting + 1] = tokens[index]
	end
end

function request()
	local token = table.remove(waiting, 1)
	return wrk.format("POST", "/v1/auth/refresh", nil, '{"refresh_token":"' .. token .. '"}')
end

function response(_, _, body)
	local next = string.match(body, '"refresh_token":"([^"]+)"')
	if next then
		waiting[#waiting + 1] = next
	end
end
