@tool
extends EditorExportPlugin
## Keeps what belongs to the server out of players' downloads: leaves out the paths of the setting
## [code]backend_client/export/server_only[/code] unless a dedicated server is exported, and any
## file and any project setting with a key in it always.

const SecretScanner: GDScript = preload("secret_scanner.gd")
const SERVER_ONLY: String = "backend_client/export/server_only"
const CATEGORY: String = "Backend Client"
## What is for the editor: these folders and files of the addon.
const FOR_EDITOR: PackedStringArray = [
	"res://addons/backend_client/bin/backend-server",
	"res://addons/backend_client/editor/",
	"res://addons/backend_client/export/",
	"res://addons/backend_client/plugin.cfg",
]

var _scanner: RefCounted
var _preload: RegEx = RegEx.create_from_string("preload\\(\\s*[\"']([^\"']+)[\"']")
var _is_server: bool = false
var _left_out: PackedStringArray = []
## Project settings that hold a key: empty while the export lasts.
var _withheld: Dictionary[String, Variant] = {}
## Files that are exported, and what each needs.
var _needs: Dictionary[String, PackedStringArray] = {}


func _get_name() -> String:
	return "BackendClientExport"


func _export_begin(
	features: PackedStringArray, _is_debug: bool, _path: String, _flags: int
) -> void:
	_scanner = SecretScanner.new([OS.get_environment("BACKEND_SERVER_KEY")])
	_is_server = get_export_preset().is_dedicated_server() or features.has("dedicated_server")
	_left_out.clear()
	_needs.clear()
	_withhold_settings()
	_check_preset()


func _export_file(path: String, _type: String, _features: PackedStringArray) -> void:
	if is_for_editor(path):
		skip()
		return
	for what: String in _scanner.find_secrets(FileAccess.get_file_as_bytes(path)):
		_say(
			EditorExportPlatform.EXPORT_MESSAGE_ERROR, "%s holds %s; it is left out" % [path, what]
		)
		skip()
	if not _is_server and is_server_only(path):
		_left_out.append(path)
		skip()
		return
	_needs[path] = _needed_by(path)


func _export_end() -> void:
	for setting: String in _withheld:
		ProjectSettings.set_setting(setting, _withheld[setting])
	_withheld.clear()
	for path: String in _needs:
		for needed: String in _needs[path]:
			if _left_out.has(needed):
				_say(
					EditorExportPlatform.EXPORT_MESSAGE_WARNING,
					"%s needs %s, which is for servers only and was left out" % [path, needed]
				)
	if not _left_out.is_empty():
		print("backend_client: left out of this client: %d server-only files" % _left_out.size())


## The engine writes all settings into the export by itself, as they are in memory at that time.
func _withhold_settings() -> void:
	for property: Dictionary in ProjectSettings.get_property_list():
		var setting: String = property.name
		if not ProjectSettings.has_setting(setting):
			continue
		var value: Variant = ProjectSettings.get_setting(setting)
		for what: String in _scanner.find_secrets_in_value([setting, value]):
			_say(
				EditorExportPlatform.EXPORT_MESSAGE_ERROR,
				(
					(
						"the project setting %s holds %s; it is left out. Settings ship to players:"
						+ " give the key to the server by BACKEND_SERVER_KEY_FILE"
					)
					% [_shown(setting), what]
				)
			)
			_withheld[setting] = value
	for setting: String in _withheld:
		# A setting that is null is not there.
		ProjectSettings.set_setting(setting, null)


## Some options of a preset are part of what is exported, and nobody can take them out here.
func _check_preset() -> void:
	var preset: EditorExportPreset = get_export_preset()
	for property: Dictionary in preset.get_property_list():
		for what: String in _scanner.find_secrets_in_value(preset.get(property.name)):
			_say(
				EditorExportPlatform.EXPORT_MESSAGE_ERROR,
				(
					"the option %s of the export preset holds %s: take it out, and do not ship this export"
					% [_shown(property.name), what]
				)
			)


## A name, unless it is what must not be shown.
func _shown(name: String) -> String:
	return name if _scanner.find_secrets_in_value(name).is_empty() else "with a key in its name"


## Whether a path is below one of the folders, or is one of the files, that are for servers only.
static func is_server_only(path: String) -> bool:
	for pattern: String in ProjectSettings.get_setting(SERVER_ONLY, PackedStringArray()):
		if (
			path == pattern
			or path.begins_with(pattern.trim_suffix("/") + "/")
			or path.match(pattern)
		):
			return true
	return false


## Whether a file of the addon is for the editor only.
static func is_for_editor(path: String) -> bool:
	for own: String in FOR_EDITOR:
		if path.begins_with(own):
			return true
	return false


## Paths that a file cannot be loaded without.
func _needed_by(path: String) -> PackedStringArray:
	var needed: PackedStringArray = []
	if path.get_extension() == "gd":
		# The engine does not know what a script preloads.
		for hit: RegExMatch in _preload.search_all(FileAccess.get_file_as_string(path)):
			var name: String = hit.get_string(1)
			var is_relative: bool = not name.contains("://")
			needed.append(
				path.get_base_dir().path_join(name).simplify_path() if is_relative else name
			)
	for need: String in ResourceLoader.get_dependencies(path):
		# `uid://…::::res://…` or `res://…::Type`
		needed.append("res://" + need.get_slice("res://", 1).get_slice("::", 0))
	return needed


func _say(type: EditorExportPlatform.ExportMessageType, text: String) -> void:
	get_export_platform().add_message(type, CATEGORY, text)
