@tool
extends RefCounted
## A file or a setting of the project that the setup assistant writes, and what is there now.

enum State {
	## Will be written.
	MISSING,
	## Is there, and stays as it is: the assistant has not written it.
	KEPT,
	## Is as the assistant has written it.
	WRITTEN,
	## The assistant has written it, and it was changed since.
	CHANGED,
}

## A path with `res://`, or the name of a Project Setting.
var target: String
## The text of a file, or the value of a setting.
var value: Variant
## The value of a setting before it was written.
var before: Variant
var state := State.MISSING


func _init(of_target: String, of_value: Variant) -> void:
	target = of_target
	value = of_value


func is_file() -> bool:
	return target.begins_with("res://")


## What is in the project now; `null` if nothing is.
func current() -> Variant:
	if not is_file():
		return ProjectSettings.get_setting(target)
	return FileAccess.get_file_as_string(target) if FileAccess.file_exists(target) else null


## Whether there is nothing that has to be kept.
func is_absent() -> bool:
	var now: Variant = current()
	return now == null or (not is_file() and len(now) == 0)


## Writes it. Returns what went wrong, or an empty text.
func write() -> String:
	if not is_file():
		before = current()
		ProjectSettings.set_setting(target, value)
		state = State.WRITTEN
		return ""
	DirAccess.make_dir_recursive_absolute(target.get_base_dir())
	var file := FileAccess.open(target, FileAccess.WRITE)
	if file == null:
		return "%s cannot be written: %s." % [target, error_string(FileAccess.get_open_error())]
	file.store_string(value)
	file.flush()
	var stored := file.get_error()
	file.close()
	if stored != OK or FileAccess.get_file_as_string(target) != value:
		# A full disk. What is cut would be taken for a change of the developer.
		DirAccess.remove_absolute(target)
		return "%s cannot be written completely. Is the disk full?" % target
	state = State.WRITTEN
	return ""


## Takes it back. Returns what went wrong, or an empty text.
func remove() -> String:
	if not is_file():
		ProjectSettings.set_setting(target, before)
		return ""
	var removed := DirAccess.remove_absolute(target)
	if removed != OK:
		return "%s cannot be removed: %s." % [target, error_string(removed)]
	# The editor's own file for a script.
	if FileAccess.file_exists(target + ".uid"):
		DirAccess.remove_absolute(target + ".uid")
	var folder := target.get_base_dir()
	if folder != "res://" and DirAccess.get_files_at(folder).is_empty():
		# Fails if it has folders, which then stay.
		DirAccess.remove_absolute(folder)
	return ""
