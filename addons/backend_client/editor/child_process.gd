@tool
extends RefCounted
## A process that this editor has started: its output, its state, its end.
##
## Nothing here waits. [method poll] reads what is there, at most [constant MAX_READ] bytes.

signal line_printed(text: String, is_error: bool)
## The process has ended, and all that it printed was read.
signal ended

## Bytes that one call reads of each of the two streams, at most.
const MAX_READ := 32 * 1024
## Longer lines are cut.
const MAX_LINE := 4096
## More than a pipe holds: what a process has left behind is read at once.
const READS_AT_END := 8

## Name for people, such as `server-1`.
var name: String
## Process id. 0 = never started.
var pid := 0
## -1 while it runs, and if it was killed.
var exit_code := -1
var is_running := false
## SIGTERM was sent.
var is_ending := false
var was_killed := false

var _streams: Array[FileAccess] = []
var _partial: Array[PackedByteArray] = [PackedByteArray(), PackedByteArray()]
var _escapes := RegEx.create_from_string("\\x1b\\[[0-9;]*[A-Za-z]")


## Starts [param program]. Variables of [param environment] are set for it, and those with an empty
## value are removed.
func start(
	program: String, arguments: PackedStringArray, environment: Dictionary[String, String]
) -> Error:
	var before: Dictionary[String, String] = {}
	for variable: String in environment:
		if OS.has_environment(variable):
			before[variable] = OS.get_environment(variable)
		_set_environment(variable, environment[variable])
	var started := OS.execute_with_pipe(program, arguments, false)
	for variable: String in environment:
		_set_environment(variable, before.get(variable, ""))
	if started.is_empty():
		return ERR_CANT_FORK
	pid = started["pid"]
	_streams = [started["stdio"], started["stderr"]]
	is_running = true
	return OK


## Reads output and state. Call it once a frame while [member is_running].
func poll() -> void:
	if not is_running:
		return
	var is_alive := OS.is_process_running(pid)
	for _read in 1 if is_alive else READS_AT_END:
		_read_streams()
	if not is_alive:
		_finish(OS.get_process_exit_code(pid))


## Whether this system has SIGTERM.
static func can_terminate() -> bool:
	return OS.get_name() != "Windows"


## Sends SIGTERM: the process ends by itself.
func terminate() -> void:
	if not is_running or not can_terminate():
		return
	is_ending = true
	OS.execute("/bin/sh", ["-c", "kill -TERM %d" % pid])


## Ends the process without warning.
func kill() -> void:
	if not is_running:
		return
	was_killed = true
	OS.kill(pid)
	for _read in READS_AT_END:
		_read_streams()
	# The engine has no exit code of a process that it killed.
	_finish(-1)


func _finish(code: int) -> void:
	exit_code = code
	is_running = false
	is_ending = false
	for index in _streams.size():
		if not _partial[index].is_empty():
			_print(_partial[index], index)
			_partial[index].clear()
	_streams.clear()
	ended.emit()


func _read_streams() -> void:
	for index in _streams.size():
		var bytes := _streams[index].get_buffer(MAX_READ)
		if bytes.is_empty():
			continue
		bytes = _partial[index] + bytes
		var begin := 0
		var end := bytes.find(10)
		while end >= 0:
			_print(bytes.slice(begin, end), index)
			begin = end + 1
			end = bytes.find(10, begin)
		_partial[index] = bytes.slice(begin)
		if _partial[index].size() > MAX_LINE:
			_print(_partial[index], index)
			_partial[index].clear()


func _print(bytes: PackedByteArray, stream: int) -> void:
	var text := bytes.slice(0, MAX_LINE).get_string_from_utf8().strip_edges(false, true)
	line_printed.emit(_escapes.sub(text, "", true), stream == 1)


func _set_environment(variable: String, value: String) -> void:
	if value.is_empty():
		OS.unset_environment(variable)
	else:
		OS.set_environment(variable, value)
