@tool
extends RefCounted
## The program between the games and the local backend. It forwards requests, and fails as it is
## told: see [method switch].

## It listens, or it will not.
signal settled
signal line_printed(text: String, is_error: bool)

const BackendProgram := preload("backend_program.gd")
const ChildProcess := preload("child_process.gd")
const FreePort := preload("free_port.gd")

const READY := "listening on "

## Base URL for games while it runs, otherwise empty.
var url := ""
var process: ChildProcess

var _faults: Dictionary = {}
var _port := 0


func is_active() -> bool:
	return process != null and process.is_running


func is_starting() -> bool:
	return is_active() and url.is_empty()


func port() -> int:
	return _port


## Starts it on [param wanted_port], or on another if that is taken.
func start(wanted_port: int, backend_url: String) -> void:
	stop()
	var program := BackendProgram.find()
	_port = FreePort.from(wanted_port)
	process = ChildProcess.new()
	process.line_printed.connect(_on_line_printed)
	process.ended.connect(_on_ended.bind(process.get_instance_id()))
	var arguments: PackedStringArray = ["fault-proxy", "--listen", "127.0.0.1:%d" % _port]
	arguments.append_array(["--backend", backend_url])
	var started := process.start(program.path, arguments, ChildProcess.without_backend_variables())
	if started != OK:
		line_printed.emit(
			"It cannot be started: %s. %s" % [error_string(started), program.error], true
		)
		settled.emit()


## Ends it without warning: it keeps nothing.
func stop() -> void:
	url = ""
	if is_active():
		process.kill()


func poll() -> void:
	if is_active():
		process.poll()


## Sets the faults: [code]latency_ms[/code], [code]offline[/code], [code]error[/code],
## [code]lost_replies[/code] and [code]share[/code].
func switch(faults: Dictionary) -> void:
	_faults = faults
	_send(faults)


## Has the access tokens that players have now refused as expired.
func expire_tokens() -> void:
	_send(_faults.merged({"expire_tokens": true}))


func _send(faults: Dictionary) -> void:
	if not url.is_empty() and is_active():
		process.write_line(JSON.stringify(faults))


func _on_line_printed(text: String, is_error: bool) -> void:
	line_printed.emit(text, is_error)
	if url.is_empty() and text.begins_with(READY):
		url = text.trim_prefix(READY).strip_edges()
		if not _faults.is_empty():
			_send(_faults)
		settled.emit()


func _on_ended(instance: int) -> void:
	# Not one that another has replaced.
	if instance != process.get_instance_id() or process.was_killed:
		return
	url = ""
	line_printed.emit("It has ended with exit code %d." % process.exit_code, true)
	settled.emit()
