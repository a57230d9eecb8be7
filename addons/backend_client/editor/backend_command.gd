@tool
extends RefCounted
## A command of `backend-server` that prints something and ends. Nothing here waits.

## [param output] is what it has printed, or the reason why it failed.
signal finished(output: String, is_error: bool)

const BackendProgram := preload("backend_program.gd")

var _thread: Thread


func is_running() -> bool:
	return _thread != null


## Starts it. Does nothing while it runs.
func run(arguments: PackedStringArray) -> void:
	if is_running():
		return
	var program := BackendProgram.find()
	if program.path.is_empty():
		finished.emit(program.error, true)
		return
	_thread = Thread.new()
	_thread.start(_execute.bind(program.path, arguments))


## Waits for its end, without a [signal finished]: before this object is dropped.
func close() -> void:
	if is_running():
		_thread.wait_to_finish()
		_thread = null


## In the thread.
func _execute(program: String, arguments: PackedStringArray) -> void:
	var output: Array = []
	var code := OS.execute(program, arguments, output)
	var is_error := code != 0
	if is_error:
		# Again, with the reason: what it prints on success must not be mixed with its log.
		output.clear()
		OS.execute(program, arguments, output, true)
	_finish.call_deferred("".join(output).strip_edges(), is_error)


func _finish(output: String, is_error: bool) -> void:
	if is_running():
		close()
		finished.emit(output, is_error)
