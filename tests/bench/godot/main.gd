extends Node
## Takes one way of calling a backend through the scenarios it is told, and prints what it measured.
##
## Times of the main thread are processor time, read where it wakes up for a frame: what other
## processes do on the machine is not in them.

const Way := preload("res://ways/way.gd")
const WAYS: Dictionary[String, String] = {
	"addon": "res://ways/addon.gd",
	"request_per_call": "res://ways/request_per_call.gd",
	"pool": "res://ways/request_pool.gd",
	"threaded_pool": "res://ways/request_pool.gd",
	"http_client": "res://ways/http_client.gd",
	"addon_login": "res://ways/login_addon.gd",
	"addon_password": "res://ways/password_addon.gd",
	"pool_login": "res://ways/login_pool.gd",
	"pool_password": "res://ways/password_pool.gd",
	"no_call": "res://ways/no_call.gd",
}
## Seconds after which a scenario that hangs is given up.
const WAIT_TIMEOUT := 60.0

var _way: Way


func _ready() -> void:
	# What cannot draw sleeps 6.9 ms in each frame otherwise, also without a limit of frames.
	OS.low_processor_usage_mode_sleep_usec = 0
	# A pool with threads ends before its first frame is over otherwise.
	await get_tree().process_frame
	var script: GDScript = load(WAYS[_argument("way")])
	_way = script.new()
	_way.url = _argument("url")
	_way.key = OS.get_environment("BACKEND_SERVER_KEY")
	_way.token = "e30." + "x".repeat(200) + ".y"
	_way.use_threads = _argument("way") == "threaded_pool"
	add_child(_way)
	for run in _argument("runs").split(","):
		var words := run.split(":")
		var figures: Dictionary = await call(words[0], words.slice(1))
		figures["run"] = run
		figures["failed"] = _way.failed
		print("FIGURES ", JSON.stringify(figures))
	get_tree().quit()


## The first calls open connections and warm caches: `count` calls.
func warm(words: PackedStringArray) -> Dictionary:
	Engine.max_fps = 0
	await _burst(int(words[0]))
	return {}


## `count` calls submitted at once, at `max_fps` (0: no limit): calls per second.
func burst(words: PackedStringArray) -> Dictionary:
	var count := int(words[0])
	Engine.max_fps = int(words[1])
	var seconds := await _burst(count)
	return {"calls_per_second": count / seconds}


## `count` calls, `in_flight` of them at a time, without a limit of frames: calls per second.
func loop(words: PackedStringArray) -> Dictionary:
	Engine.max_fps = 0
	var count := int(words[0])
	var in_flight := int(words[1])
	var end := _way.completed + count
	var begun := Time.get_ticks_usec()
	var left := count
	while _way.completed < end:
		if Time.get_ticks_usec() - begun > WAIT_TIMEOUT * 1e6:
			push_error("a loop hangs")
			break
		while left > 0 and _way.in_flight() < in_flight:
			_way.submit()
			left -= 1
		await get_tree().process_frame
	return {"calls_per_second": count / ((_way.last_usec - begun) / 1e6)}


## `per_second` calls at 60 frames a second for `seconds`: what frames cost the main thread.
func steady(words: PackedStringArray) -> Dictionary:
	Engine.max_fps = 60
	var per_second := int(words[0])
	var seconds := float(words[1])
	var idle := await _frames(seconds, 0)
	var before := _way.completed
	var busy := await _frames(seconds, per_second)
	_way.drop_waiting()
	var completed := _way.completed - before
	var idle_cost := _sum(idle) / idle.size()
	await _settle()
	return {
		"completed_per_second": completed / seconds,
		"main_thread_us_per_call": (_sum(busy) - idle_cost * busy.size()) / completed,
		"idle_frame_us": idle_cost,
		"idle_frame_p99_us": _quantile(idle, 0.99),
		"frame_p50_us": _quantile(busy, 0.5),
		"frame_p99_us": _quantile(busy, 0.99),
		"frame_max_us": busy[-1],
	}


## One call after another, `count` of them, each on an idle game at 60 frames a second: its result.
func single(words: PackedStringArray) -> Dictionary:
	Engine.max_fps = 60
	var frames: Array[float] = []
	var times: Array[float] = []
	for _call in int(words[0]):
		for _idle in 3:
			await get_tree().process_frame
		var before := _way.completed
		var first := Engine.get_process_frames()
		var begun := Time.get_ticks_usec()
		_way.submit()
		while _way.completed == before:
			await get_tree().process_frame
		frames.append(float(_way.last_frame - first))
		times.append((_way.last_usec - begun) / 1000.0)
	frames.sort()
	times.sort()
	return {"latency_frames": _quantile(frames, 0.5), "latency_ms": _quantile(times, 0.5)}


## `count` calls submitted at once whose replies never come: what they take after `seconds`.
func memory(words: PackedStringArray) -> Dictionary:
	Engine.max_fps = 60
	_way.set("limit", int(words[0]))
	_way.token = "held." + "x".repeat(200) + ".y"
	var before := _resident_bytes()
	for _call in int(words[0]):
		_way.submit()
	var end := Time.get_ticks_usec() + float(words[1]) * 1e6
	while Time.get_ticks_usec() < end:
		await get_tree().process_frame
	return {"resident_bytes": _resident_bytes() - before}


func _burst(count: int) -> float:
	var end := _way.completed + count
	var begun := Time.get_ticks_usec()
	for _call in count:
		_way.submit()
	while _way.completed < end:
		if Time.get_ticks_usec() - begun > WAIT_TIMEOUT * 1e6:
			push_error("a burst hangs")
			break
		await get_tree().process_frame
	return (_way.last_usec - begun) / 1e6


## Processor time of the main thread in each frame of `seconds`, in microseconds, sorted.
func _frames(seconds: float, per_second: int) -> Array[float]:
	var costs: Array[float] = []
	var submitted := 0
	await get_tree().process_frame
	var begun := Time.get_ticks_usec()
	var before := _processor_usec()
	while true:
		var elapsed := (Time.get_ticks_usec() - begun) / 1e6
		if elapsed >= seconds:
			break
		var due := int(elapsed * per_second)
		while submitted < due:
			_way.submit()
			submitted += 1
		await get_tree().process_frame
		var now := _processor_usec()
		costs.append(now - before)
		before = now
	costs.sort()
	return costs


## Waits until what is on its way has come.
func _settle() -> void:
	var begun := Time.get_ticks_usec()
	while _way.in_flight() > 0 and Time.get_ticks_usec() - begun < WAIT_TIMEOUT * 1e6:
		await get_tree().process_frame


## Processor time that the process's first thread had until it last slept (proc_pid_schedstat(5)).
func _processor_usec() -> float:
	var file := FileAccess.open("/proc/self/schedstat", FileAccess.READ)
	return file.get_line().get_slice(" ", 0).to_float() / 1000.0


## What the process has in memory (proc_pid_status(5)).
func _resident_bytes() -> float:
	var file := FileAccess.open("/proc/self/status", FileAccess.READ)
	while not file.eof_reached():
		var line := file.get_line()
		if line.begins_with("VmRSS:"):
			return line.trim_prefix("VmRSS:").to_float() * 1024.0
	return 0.0


func _sum(values: Array[float]) -> float:
	var total := 0.0
	for value in values:
		total += value
	return total


func _quantile(sorted: Array[float], share: float) -> float:
	return sorted[maxi(ceili(share * sorted.size()), 1) - 1]


func _argument(argument_name: String) -> String:
	var prefix := "--%s=" % argument_name
	for text in OS.get_cmdline_user_args():
		if text.begins_with(prefix):
			return text.trim_prefix(prefix)
	return ""
