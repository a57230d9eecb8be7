@tool
extends EditorDebuggerPlugin
## Takes the states that games send which run in the editor's own debugger, as by F5.

signal reported(state: Dictionary)
## A game that has reported has ended.
signal ended(process_id: int)

const PREFIX := "backend_client"

## The process ids by session.
var _pids: Dictionary[int, int] = {}


func _setup_session(session: int) -> void:
	get_session(session).stopped.connect(_on_stopped.bind(session))


func _has_capture(prefix: String) -> bool:
	return prefix == PREFIX


func _capture(message: String, data: Array, session: int) -> bool:
	if message != PREFIX + ":state" or data.size() != 1 or not data[0] is Dictionary:
		return false
	_pids[session] = int(data[0].get("process_id", 0))
	reported.emit(data[0])
	return true


func _on_stopped(session: int) -> void:
	if _pids.has(session):
		ended.emit(_pids[session])
		_pids.erase(session)
