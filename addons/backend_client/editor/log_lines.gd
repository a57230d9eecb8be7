@tool
extends RefCounted
## The last lines of all processes, in the order in which they came.

const MAX_LINES := 10_000
## Lines that are removed at a time.
const REMOVED_AT_ONCE := 1_000


class Line:
	extends RefCounted

	var source: String
	var text: String
	var is_error: bool


## Number of the first line that is still here.
var first := 0

var _lines: Array[Line] = []


func add(source: String, text: String, is_error: bool) -> void:
	var line := Line.new()
	line.source = source
	line.text = text
	line.is_error = is_error
	_lines.append(line)
	if _lines.size() > MAX_LINES + REMOVED_AT_ONCE:
		first += _lines.size() - MAX_LINES
		_lines = _lines.slice(-MAX_LINES)


## Number of the next line to come.
func end() -> int:
	return first + _lines.size()


func get_line(number: int) -> Line:
	return _lines[number - first]


func clear() -> void:
	first = end()
	_lines.clear()


## Whether a line is of [param source] (empty = any) and contains [param search], in any case.
static func matches(line: Line, source: String, search: String) -> bool:
	return (
		(source.is_empty() or line.source == source)
		and (search.is_empty() or line.text.containsn(search))
	)


## Number from which [param count] matching lines follow, or as many as there are.
func find_last(count: int, source: String, search: String) -> int:
	var at := end()
	while at > first and count > 0:
		at -= 1
		if matches(_lines[at - first], source, search):
			count -= 1
	return at
