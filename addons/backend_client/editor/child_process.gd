@tool
extends RefCounted
## A process that this editor has started: its output, its state, its end.
##
## Nothing here waits. [method poll] reads what is there, at most [constant MAX_READ] bytes and
## [constant MAX_LINES] lines of each stream.

signal line_printed(text: String, is_error: bool)
## The process has ended, and all that it printed was read.
signal ended

## Bytes that one call reads of each of the two streams, at most.
const MAX_READ := 32 * 1024
const MAX_LINES := 250
## Longer lines are cut.
const MAX_LINE := 4096
## Calls of [method poll] after the end that look for more output, at most: a process that the ended
## one has started may go on printing.
const MAX_READS_AT_END := 600
const ESCAPE := "\u001b"

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
var _reads_at_end := 0
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
	var has_more := _read_streams()
	if not is_alive:
		_reads_at_end += 1
		if not has_more or _reads_at_end > MAX_READS_AT_END:
			_finish(OS.get_process_exit_code(pid))


## Writes a line to its standard input.
func write_line(text: String) -> void:
	# Nobody may read any more.
	if is_running and OS.is_process_running(pid):
		_streams[0].store_line(text)
		_streams[0].flush()


## Whether this system has SIGTERM.
static func can_terminate() -> bool:
	return OS.get_name() != "Windows"


## Sends SIGTERM: the process ends by itself.
func terminate() -> void:
	if not is_running or not can_terminate():
		return
	is_ending = true
	send_sigterm(pid)


static func send_sigterm(process_id: int) -> void:
	OS.execute("/bin/sh", ["-c", "kill -TERM %d" % process_id])


## Ends the process without warning.
func kill() -> void:
	if not is_running:
		return
	was_killed = true
	OS.kill(pid)
	_read_streams()
	# The engine has no exit code of a process that it killed.
	_finish(-1)


func _finish(code: int) -> void:
	exit_code = code
	is_running = false
	is_ending = false
	for index in _streams.size():
		var rest := _print_lines(_partial[index], index)
		# More lines than that are left out: the process was killed in the middle of them.
		if not rest.is_empty() and rest.find(10) < 0:
			_print(rest, index)
		_partial[index].clear()
	_streams.clear()
	ended.emit()


## Reads what is there, and returns whether there may be more.
func _read_streams() -> bool:
	var has_more := false
	for index in _streams.size():
		var bytes := _partial[index]
		var read := PackedByteArray()
		var has_lines := bytes.find(10) >= 0
		if not has_lines:
			read = _streams[index].get_buffer(MAX_READ)
		has_more = has_more or has_lines or not read.is_empty()
		_partial[index] = _print_lines(bytes + read, index)
	return has_more


## Prints at most [constant MAX_LINES] lines, and returns the rest.
func _print_lines(bytes: PackedByteArray, stream: int) -> PackedByteArray:
	var begin := 0
	var end := bytes.find(10)
	var printed := 0
	while end >= 0 and printed < MAX_LINES:
		_print(bytes.slice(begin, end), stream)
		printed += 1
		begin = end + 1
		end = bytes.find(10, begin)
	var rest := bytes.slice(begin)
	if end < 0 and rest.size() > MAX_LINE:
		_print(rest, stream)
		rest.clear()
	return rest


func _print(bytes: PackedByteArray, stream: int) -> void:
	var text := bytes.slice(0, MAX_LINE).get_string_from_utf8().strip_edges(false, true)
	if text.contains(ESCAPE):
		text = _escapes.sub(text, "", true)
	line_printed.emit(text, stream == 1)


## The editor's variables for backends and games, without values: they are meant for others than
## those of the panel. [code]BACKEND_LOG[/code] stays.
static func without_backend_variables() -> Dictionary[String, String]:
	var cleared: Dictionary[String, String] = {}
	var output: Array = []
	if OS.get_name() == "Windows":
		OS.execute("cmd.exe", ["/c", "set BACKEND_"], output)
	else:
		OS.execute("env", [], output)
	for line: String in "".join(output).split("\n"):
		var variable := line.get_slice("=", 0)
		if variable.begins_with("BACKEND_") and variable != "BACKEND_LOG":
			cleared[variable] = ""
	return cleared


func _set_environment(variable: String, value: String) -> void:
	if value.is_empty():
		OS.unset_environment(variable)
	else:
		OS.set_environment(variable, value)
