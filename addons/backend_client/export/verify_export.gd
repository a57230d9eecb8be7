extends SceneTree
## Looks for keys and secrets in a finished export, before anybody gets it:
## [codeblock]
## godot --headless --script addons/backend_client/export/verify_export.gd -- build/
## [/codeblock]
## Takes files and folders, also zip archives and Android packages. Ends with 0 when there is
## nothing, with 1 when there is a key or a secret, with 2 when something could not be read.

const SecretScanner: GDScript = preload("secret_scanner.gd")
const EXIT_FOUND: int = 1
const EXIT_UNREADABLE: int = 2
const PIECE: int = 64 * 1024 * 1024
## Pieces overlap, so that nothing hides on a border.
const OVERLAP: int = 4 * 1024 * 1024

var _scanner: RefCounted
var _files: int = 0
var _found: int = 0
var _unreadable: int = 0


func _init() -> void:
	var paths: PackedStringArray = OS.get_cmdline_user_args()
	if paths.is_empty():
		printerr("name the exported files, after --")
		quit(EXIT_UNREADABLE)
		return
	var known: PackedStringArray = [OS.get_environment("BACKEND_SERVER_KEY")]
	var key_file: String = OS.get_environment("BACKEND_SERVER_KEY_FILE")
	if not key_file.is_empty():
		known.append(FileAccess.get_file_as_string(key_file).strip_edges())
	_scanner = SecretScanner.new(known)
	for path: String in paths:
		_verify(path)
	print("verify-export: %d files, %d secrets, %d unreadable" % [_files, _found, _unreadable])
	if _found > 0:
		quit(EXIT_FOUND)
	else:
		quit(EXIT_UNREADABLE if _unreadable > 0 or _files == 0 else 0)


func _verify(path: String) -> void:
	if DirAccess.dir_exists_absolute(path):
		for file: String in DirAccess.get_files_at(path):
			_verify(path.path_join(file))
		for folder: String in DirAccess.get_directories_at(path):
			_verify(path.path_join(folder))
		return
	var file: FileAccess = FileAccess.open(path, FileAccess.READ)
	if file == null:
		printerr("%s: %s" % [path, error_string(FileAccess.get_open_error())])
		_unreadable += 1
		return
	_files += 1
	var zip: ZIPReader = ZIPReader.new()
	if file.get_length() > 4 and file.get_32() == 0x04034b50 and zip.open(path) == OK:
		for name: String in zip.get_files():
			_report("%s!%s" % [path, name], _scanner.find_secrets(zip.read_file(name)))
		zip.close()
		return
	file.seek(0)
	var told: PackedStringArray = []
	while file.get_position() < file.get_length():
		var begin: int = file.get_position()
		for what: String in _scanner.find_secrets(file.get_buffer(PIECE)):
			if not told.has(what):
				told.append(what)
		if file.get_position() < file.get_length():
			file.seek(maxi(begin + 1, file.get_position() - OVERLAP))
	_report(path, told)


func _report(path: String, secrets: PackedStringArray) -> void:
	for what: String in secrets:
		printerr("%s: %s" % [path, what])
		_found += 1
