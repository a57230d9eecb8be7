## Collects what is logged as a warning, from any thread: for OS.add_logger().
extends Logger

var _mutex := Mutex.new()
var _lines: PackedStringArray = []


## How many warnings contain [param words].
func count(words: String) -> int:
	_mutex.lock()
	var found := Array(_lines).filter(func(line: String) -> bool: return line.contains(words))
	_mutex.unlock()
	return found.size()


func has(words: String) -> bool:
	return count(words) > 0


func clear() -> void:
	_mutex.lock()
	_lines.clear()
	_mutex.unlock()


func _log_error(
	_function: String,
	_file: String,
	_line: int,
	code: String,
	rationale: String,
	_editor_notify: bool,
	error_type: int,
	_backtraces: Array[ScriptBacktrace],
) -> void:
	if error_type == ERROR_TYPE_WARNING:
		_mutex.lock()
		_lines.append(rationale if not rationale.is_empty() else code)
		_mutex.unlock()
