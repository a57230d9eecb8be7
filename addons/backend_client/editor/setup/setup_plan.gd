@tool
extends RefCounted
## What the setup assistant writes: a server scene, a client scene, a main scene that chooses
## between them, an export preset for each, and settings. It can take back what nobody has changed
## since.

const RunOptions := preload("../run_options.gd")
const SetupItem := preload("setup_item.gd")

const TEMPLATES := "res://addons/backend_client/editor/setup/templates"
const RECORD := "res://.godot/backend_client/setup.cfg"
const FILES: PackedStringArray = [
	"server/server.gd",
	"server/server.tscn",
	"client/client.gd",
	"client/client.tscn",
	"main.gd",
	"main.tscn",
	"export_presets.cfg",
]
const SETTINGS: Dictionary[String, Variant] = {
	"application/run/main_scene": "res://main.tscn",
	"backend_client/network/base_url": "http://127.0.0.1:{port}",
	"backend_client/export/server_only": ["res://server/"],
}
## Names of the export platforms.
const PLATFORMS: Dictionary[String, String] = {"Windows": "Windows Desktop", "macOS": "macOS"}
## Limit of a server's name.
const MAX_NAME := 64

var items: Array[SetupItem] = []


func _init() -> void:
	refresh()


## Looks at the project again.
func refresh() -> void:
	items.clear()
	var record := ConfigFile.new()
	# Without a record, nothing was written.
	record.load(RECORD)
	for file in FILES:
		items.append(SetupItem.new("res://" + file, _text(file)))
	for setting in SETTINGS:
		var value: Variant = SETTINGS[setting]
		if value is String:
			value = value.replace("{port}", str(RunOptions.new().backend_port))
		items.append(SetupItem.new(setting, PackedStringArray(value) if value is Array else value))
	for item in items:
		if record.has_section(item.target):
			item.value = record.get_value(item.target, "value")
			if not item.is_file():
				item.before = record.get_value(item.target, "before", "")
			if item.current() == item.value:
				item.state = SetupItem.State.WRITTEN
			elif item.is_absent():
				item.state = SetupItem.State.MISSING
			else:
				item.state = SetupItem.State.CHANGED
		elif not item.is_absent():
			item.state = SetupItem.State.KEPT


## Writes what is missing. Returns what went wrong, a line each.
func write() -> PackedStringArray:
	refresh()
	var errors: PackedStringArray = []
	for item in items:
		if item.state == SetupItem.State.MISSING:
			var error := item.write()
			if not error.is_empty():
				errors.append(error)
	_save(errors)
	return errors


## Removes what is as it was written. Returns what went wrong, a line each.
func remove() -> PackedStringArray:
	refresh()
	var errors: PackedStringArray = []
	for item in items:
		if item.state == SetupItem.State.WRITTEN:
			var error := item.remove()
			if error.is_empty():
				item.state = SetupItem.State.MISSING
			else:
				errors.append(error)
	_save(errors)
	refresh()
	return errors


## Whether an item has this state.
func has(state: SetupItem.State) -> bool:
	return items.any(func(item: SetupItem) -> bool: return item.state == state)


func _save(errors: PackedStringArray) -> void:
	var saved := ProjectSettings.save()
	if saved != OK:
		errors.append("project.godot cannot be written: %s." % error_string(saved))
	var record := ConfigFile.new()
	for item in items:
		if item.state in [SetupItem.State.WRITTEN, SetupItem.State.CHANGED]:
			record.set_value(item.target, "value", item.value)
			if not item.is_file():
				record.set_value(item.target, "before", item.before)
	DirAccess.make_dir_recursive_absolute(RECORD.get_base_dir())
	saved = record.save(RECORD)
	if saved != OK:
		errors.append("%s cannot be written: %s." % [RECORD, error_string(saved)])


func _text(file: String) -> String:
	var text := FileAccess.get_file_as_string(TEMPLATES.path_join(file))
	var game: String = ProjectSettings.get_setting("application/config/name", "")
	game = "Server" if game.is_empty() else game.left(MAX_NAME)
	return text.replace("{game}", game.c_escape()).replace(
		"{platform}", PLATFORMS.get(OS.get_name(), "Linux")
	)
