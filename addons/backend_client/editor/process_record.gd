@tool
extends RefCounted
## Which processes this editor has started, in a file that git ignores: an editor that crashes does
## not end them, and the next one does.

const FILE := "res://.godot/backend_client/processes.cfg"
const EDITOR := "editor"
const PROCESSES := "processes"


## Records the processes that run. [param processes] has the process id and, for each, a text that
## its command line contains.
static func save(processes: Dictionary[int, String]) -> void:
	var file := ConfigFile.new()
	file.set_value(EDITOR, "pid", OS.get_process_id())
	for pid in processes:
		file.set_value(PROCESSES, str(pid), processes[pid])
	DirAccess.make_dir_recursive_absolute(FILE.get_base_dir())
	file.save(FILE)


## Sends SIGTERM to processes that an earlier editor has left behind, and returns their ids. Does
## nothing on Windows.
static func end_left_processes() -> PackedInt32Array:
	var ended: PackedInt32Array = []
	var file := ConfigFile.new()
	if OS.get_name() == "Windows" or file.load(FILE) != OK or not file.has_section(PROCESSES):
		return ended
	var editor: int = file.get_value(EDITOR, "pid", 0)
	if editor != OS.get_process_id() and not _command_line(editor).is_empty():
		# Another editor has this project open.
		return ended
	for key in file.get_section_keys(PROCESSES):
		var part: String = file.get_value(PROCESSES, key)
		# The system may have given the id to another process since.
		if not part.is_empty() and _command_line(key.to_int()).contains(part):
			OS.execute("/bin/sh", ["-c", "kill -TERM %d" % key.to_int()])
			ended.append(key.to_int())
	DirAccess.remove_absolute(FILE)
	return ended


## The command line of a process; empty if there is no such process.
static func _command_line(pid: int) -> String:
	var output: Array = []
	if OS.execute("ps", ["-o", "args=", "-p", str(pid)], output) != 0 or output.is_empty():
		return ""
	return str(output[0]).strip_edges()
