-- What every load has: headers put together, and figures told in one line.
function merged(one, other)
	local all = {}
	for name, value in pairs(one) do
		all[name] = value
	end
	for name, value in pairs(other) do
		all[name] = value
	end
	return all
end

function done(summary, latency)
	local errors = summary.errors
	io.write(string.format(
		'LOAD {"requests":%.0f,"microseconds":%.0f,"p50_us":%.0f,"p99_us":%.0f,"refused":%.0f,"broken":%.0f}\n',
		summary.requests,
		summary.duration,
		latency:percentile(50),
		latency:percentile(99),
		errors.status,
		errors.connect + errors.read + errors.write + errors.timeout
	))
end
