@tool
extends RefCounted
## Which processes each editor has started, in files that git ignores: an editor that crashes does
## not end them, and the next one does.

const FOLDER := "res://.godot/backend_client/processes"
const PROCESSES := "processes"
## In the command line of a backend, before its address.
const LISTEN := "--listen "

const ChildProcess := preload("child_process.gd")


## Records the processes of this editor that run. [param processes] has the process id and, for
## each, a text in ASCII that its command line contains.
static func save(processes: Dictionary[int, String]) -> void:
	var path := _file(OS.get_process_id())
	if processes.is_empty():
		DirAccess.remove_absolute(path)
		return
	var file := ConfigFile.new()
	for pid in processes:
		file.set_value(PROCESSES, str(pid), processes[pid])
	DirAccess.make_dir_recursive_absolute(FOLDER)
	var saved := file.save(path)
	if saved != OK:
		push_warning("%s cannot be written: %s" % [path, error_string(saved)])


## Address of the backend that another editor runs for this project; empty if there is none.
static func backend_of_another_editor() -> String:
	for editor in _editors():
		if editor == OS.get_process_id() or not _is_editor(editor):
			continue
		var processes := _running(editor)
		for pid in processes:
			if processes[pid].begins_with(LISTEN):
				return processes[pid].trim_prefix(LISTEN)
	return ""


## Sends SIGTERM to processes of editors that have ended without ending them, and returns their
## ids. With [param is_forced], ends them without warning. Does nothing on Windows.
static func end_orphans(is_forced := false) -> PackedInt32Array:
	var orphans: PackedInt32Array = []
	for editor in _editors():
		if editor == OS.get_process_id() or _is_editor(editor):
			continue
		var processes := _running(editor)
		for pid in processes:
			if is_forced:
				OS.kill(pid)
			else:
				ChildProcess.send_sigterm(pid)
			orphans.append(pid)
		# They are looked at again as long as they run.
		if processes.is_empty() or is_forced:
			DirAccess.remove_absolute(_file(editor))
	return orphans


## Process ids of the editors that have recorded processes.
static func _editors() -> PackedInt32Array:
	var editors: PackedInt32Array = []
	if OS.get_name() != "Windows" and DirAccess.dir_exists_absolute(FOLDER):
		for file in DirAccess.get_files_at(FOLDER):
			editors.append(file.get_basename().to_int())
	return editors


## Whether the process is an editor. The system may have given the id to another process since.
static func _is_editor(pid: int) -> bool:
	return _command_line(pid).contains(OS.get_executable_path().get_file())


## Processes that an editor has recorded and that still run.
static func _running(editor: int) -> Dictionary[int, String]:
	var running: Dictionary[int, String] = {}
	var file := ConfigFile.new()
	if file.load(_file(editor)) != OK or not file.has_section(PROCESSES):
		return running
	for key in file.get_section_keys(PROCESSES):
		var part: String = file.get_value(PROCESSES, key)
		if not part.is_empty() and _command_line(key.to_int()).contains(part):
			running[key.to_int()] = part
	return running


static func _file(editor: int) -> String:
	return FOLDER.path_join("%d.cfg" % editor)


## The command line of a process; empty if there is no such process.
static func _command_line(pid: int) -> String:
	var output: Array = []
	# Without `-ww`, some systems cut it.
	if OS.execute("ps", ["-ww", "-o", "args=", "-p", str(pid)], output) != 0 or output.is_empty():
		return ""
	return str(output[0]).strip_edges()
