@tool
extends RefCounted
## Where the program `backend-server` is on this machine.

const SETTING := "backend_client/backend_server_program"
const VARIABLE := "BACKEND_SERVER_PROGRAM"
const OWN := "res://addons/backend_client/bin/backend-server."

## The program, or empty.
var path := ""
## Why there is none, and what to do.
var error := ""


## Looks in the environment, in the Editor Settings, and in the addon.
static func find() -> RefCounted:
	var found := new()
	var named := {
		VARIABLE: OS.get_environment(VARIABLE),
		"Editor Settings → Backend Client → Backend Server Program": _from_editor_setting(),
	}
	for source: String in named:
		var program: String = named[source]
		if program.is_empty():
			continue
		if FileAccess.file_exists(program):
			found.path = program
		else:
			found.error = (
				"%s is %s: there is no such file. Correct it or remove it." % [source, program]
			)
		return found
	var own := ProjectSettings.globalize_path(OWN + _platform())
	if FileAccess.file_exists(own):
		found.path = own
		_make_executable(own)
	else:
		found.error = (
			(
				"There is no backend-server at %s. Copy it there from the package of the addon, or name it"
				+ " in Editor Settings → Backend Client → Backend Server Program."
			)
			% own
		)
	return found


## Shows the setting in the Editor Settings.
static func register_editor_setting() -> void:
	var settings := EditorInterface.get_editor_settings()
	if not settings.has_setting(SETTING):
		settings.set_setting(SETTING, "")
	settings.set_initial_value(SETTING, "", false)
	settings.add_property_info(
		{"name": SETTING, "type": TYPE_STRING, "hint": PROPERTY_HINT_GLOBAL_FILE}
	)


## As the packages name it.
static func _platform() -> String:
	match OS.get_name():
		"Windows":
			return "windows-%s.exe" % Engine.get_architecture_name()
		"macOS":
			return "macos-universal"
	return "linux-%s" % Engine.get_architecture_name()


static func _from_editor_setting() -> String:
	if not Engine.is_editor_hint():
		return ""
	var settings := EditorInterface.get_editor_settings()
	return settings.get_setting(SETTING) if settings.has_setting(SETTING) else ""


## The Asset Library unpacks files without this permission.
static func _make_executable(program: String) -> void:
	if OS.get_name() == "Windows":
		return
	var permissions := FileAccess.get_unix_permissions(program)
	if not permissions & FileAccess.UNIX_EXECUTE_OWNER:
		FileAccess.set_unix_permissions(program, permissions | FileAccess.UNIX_EXECUTE_OWNER)
