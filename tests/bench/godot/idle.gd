extends Node
## A game that does nothing, with the addon's nodes as told: what its start and each of its
## frames cost.
##
## Names no class of the addon, so that it is the same game without it.

const REGISTRATION := "BackendServerRegistration"
## Seconds until a server must be registered.
const WAIT_TIMEOUT := 20.0


func _ready() -> void:
	var nodes := _argument("nodes")
	if nodes != "none":
		_add_every_node(nodes == "server")
	await get_tree().process_frame
	print("FIRST FRAME")
	# Whoever sleeps has its processor time accounted to the end.
	OS.delay_msec(1)
	var figures := {"run": "idle", "failed": 0, "start_main_thread_ms": _main_thread_usec() / 1e3}
	if nodes == "server":
		await _registered()
	var frames := int(_argument("frames"))
	if frames > 0:
		figures["frame_us"] = await _frame_usec(frames)
	var seconds := int(_argument("seconds"))
	if seconds > 0:
		figures.merge(await _at_60_hz(seconds))
	print("FIGURES ", JSON.stringify(figures))
	get_tree().quit()


func _add_every_node(is_server: bool) -> void:
	for name in ClassDB.get_class_list():
		if name.begins_with("Backend") and ClassDB.is_parent_class(name, "Node"):
			# Those of the editor are made by the editor.
			if ClassDB.is_parent_class(name, "EditorPlugin"):
				continue
			var node: Node = ClassDB.instantiate(name)
			if is_server and name == REGISTRATION:
				node.name = name
				node.set("server_name", "Idle")
				node.set("port", 7000)
				node.set("auto_register", true)
			add_child(node)


func _registered() -> void:
	var registration := get_node(REGISTRATION)
	var begun := Time.get_ticks_usec()
	while (registration.get("server_id") as String).is_empty():
		if Time.get_ticks_usec() - begun > WAIT_TIMEOUT * 1e6:
			push_error("the server is not registered")
			break
		await get_tree().process_frame


## Processor time of the main thread per frame, as fast as frames come: no window, no limit, no
## pause.
func _frame_usec(frames: int) -> float:
	Engine.max_fps = 0
	var pause := OS.low_processor_usage_mode_sleep_usec
	OS.low_processor_usage_mode_sleep_usec = 0
	OS.delay_msec(1)
	var before := _main_thread_usec()
	for _frame in frames:
		await get_tree().process_frame
	OS.delay_msec(1)
	OS.low_processor_usage_mode_sleep_usec = pause
	return (_main_thread_usec() - before) / frames


## What the process takes at the usual rate.
func _at_60_hz(seconds: int) -> Dictionary:
	Engine.max_fps = 60
	await get_tree().process_frame
	var before := _process_usec()
	var begun := Time.get_ticks_usec()
	while Time.get_ticks_usec() - begun < seconds * 1e6:
		await get_tree().process_frame
	var share := (_process_usec() - before) / (Time.get_ticks_usec() - begun)
	return {"processor_percent": share * 100.0, "resident_mib": _resident_mib()}


## Processor time that the process's first thread had until it last slept (proc_pid_schedstat(5)).
func _main_thread_usec() -> float:
	return _thread_usec("/proc/self/schedstat")


func _process_usec() -> float:
	var total := 0.0
	for thread in DirAccess.get_directories_at("/proc/self/task"):
		total += _thread_usec("/proc/self/task/%s/schedstat" % thread)
	return total


func _thread_usec(path: String) -> float:
	var file := FileAccess.open(path, FileAccess.READ)
	# A thread that has ended since has no file.
	return file.get_line().get_slice(" ", 0).to_float() / 1000.0 if file != null else 0.0


func _resident_mib() -> float:
	var file := FileAccess.open("/proc/self/status", FileAccess.READ)
	while not file.eof_reached():
		var line := file.get_line()
		if line.begins_with("VmRSS:"):
			return line.trim_prefix("VmRSS:").to_float() / 1024.0
	return 0.0


func _argument(argument_name: String) -> String:
	var prefix := "--%s=" % argument_name
	for text in OS.get_cmdline_user_args():
		if text.begins_with(prefix):
			return text.trim_prefix(prefix)
	return ""
