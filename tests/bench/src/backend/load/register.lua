-- New servers, each listed once. From before: headers, run.
local count = 0

function setup(thread)
	thread:set("first", threads or 0)
	threads = (threads or 0) + 1
end

function init()
	wrk.headers = merged(wrk.headers, headers)
end

function request()
	count = count + 1
	local instance = run .. "-" .. first .. "-" .. count
	return wrk.format(
		"POST",
		"/v1/servers",
		nil,
		'{"instance_id":"' .. instance .. '","name":"zz ' .. instance .. '","address":"203.0.113.9","port":7777,"map":"marsh",'
			.. '"mode":"race","region":"eu","version":"1.0.0","tags":["new"],"players":0,"max_players":16}'
	)
end
