## What the engine reports about scripts, with the script and its line.
extends Logger

var _mutex := Mutex.new()
var _errors: Array[Array] = []


func _log_error(
	_function: String,
	file: String,
	line: int,
	code: String,
	rationale: String,
	_editor_notify: bool,
	error_type: int,
	backtraces: Array[ScriptBacktrace],
) -> void:
	if error_type == ERROR_TYPE_WARNING:
		return
	# An error of the engine is in one of its files; who has caused it is in the backtrace.
	for backtrace in backtraces:
		if not file.contains("compiled.gd") and backtrace.get_frame_count() > 0:
			file = backtrace.get_frame_file(0)
			line = backtrace.get_frame_line(0)
	_mutex.lock()
	_errors.append([file, line, code if rationale.is_empty() else rationale])
	_mutex.unlock()


## The errors since the last call: file, line, text.
func take() -> Array[Array]:
	_mutex.lock()
	var taken := _errors.duplicate()
	_errors.clear()
	_mutex.unlock()
	return taken
