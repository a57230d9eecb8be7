class_name BackendSavedRooms
extends RefCounted
## Favorite servers of a player and those they joined last, kept in [code]user://[/code] for each
## profile.
##
## A server is known by its address and port, which stay the same when it is started again and gets
## another room id.

const FOLDER := "user://backend_client/ui"
const MAX_FAVORITES := 200
const MAX_HISTORY := 50
const _MAX_BYTES := 1 << 20

## Why the file could not be read or written, otherwise empty.
var problem := ""

var _path: String
var _favorites: Dictionary[String, String] = {}
var _history: Dictionary[String, String] = {}


## Reads what was kept for [param profile].
func _init(profile: String) -> void:
	_path = FOLDER.path_join("rooms-%s.json" % profile.validate_filename())
	_read()


## The address by which a server is known.
static func key_of(address: String, port: int) -> String:
	return "%s:%d" % [address, port]


## The file that this is kept in.
func get_path() -> String:
	return _path


func is_favorite(key: String) -> bool:
	return _favorites.has(key)


## Adds or removes a favorite. Fails, and changes nothing, if there are too many.
func set_favorite(key: String, name: String, favorite: bool) -> bool:
	_read()
	if not favorite:
		_favorites.erase(key)
	elif _favorites.size() >= MAX_FAVORITES and not _favorites.has(key):
		return false
	else:
		_favorites[key] = name
	return _write()


## Notes that the player joined a server. The oldest entry is dropped when there are too many.
func add_to_history(key: String, name: String) -> void:
	_read()
	_history.erase(key)
	_history[key] = name
	while _history.size() > MAX_HISTORY:
		_history.erase(_history.keys()[0])
	_write()


## Names by address, in the order in which they were added.
func get_favorites() -> Dictionary[String, String]:
	return _favorites.duplicate()


## Names by address, the last one joined first.
func get_history() -> Dictionary[String, String]:
	var newest_first: Dictionary[String, String] = {}
	var keys := _history.keys()
	keys.reverse()
	for key: String in keys:
		newest_first[key] = _history[key]
	return newest_first


# Another process of the same profile may have written meanwhile.
func _read() -> void:
	problem = ""
	if not FileAccess.file_exists(_path):
		return
	var file := FileAccess.open(_path, FileAccess.READ)
	if file == null:
		problem = "cannot read %s: %s" % [_path, error_string(FileAccess.get_open_error())]
		return
	var json := JSON.new()
	var readable := file.get_length() <= _MAX_BYTES and json.parse(file.get_as_text()) == OK
	file.close()
	if not readable or json.data is not Dictionary:
		_keep_aside()
		return
	var kept: Dictionary = json.data
	_favorites = _entries(kept.get("favorites"), MAX_FAVORITES)
	_history = _entries(kept.get("history"), MAX_HISTORY)


func _keep_aside() -> void:
	var aside := _path + ".damaged"
	problem = "%s is damaged; it was renamed to %s" % [_path, aside]
	push_warning(problem)
	DirAccess.rename_absolute(_path, aside)


func _entries(stored: Variant, limit: int) -> Dictionary[String, String]:
	var entries: Dictionary[String, String] = {}
	if stored is Array:
		for entry: Variant in stored as Array:
			if entry is Dictionary and entries.size() < limit:
				var key := str((entry as Dictionary).get("address", ""))
				if not key.is_empty():
					entries[key] = str((entry as Dictionary).get("name", key))
	return entries


func _write() -> bool:
	var error := DirAccess.make_dir_recursive_absolute(FOLDER)
	# Renamed into place: a crash leaves the old file or the new one.
	var fresh := "%s.%d.new" % [_path, OS.get_process_id()]
	var file := FileAccess.open(fresh, FileAccess.WRITE) if error == OK else null
	if error == OK and file == null:
		error = FileAccess.get_open_error()
	if error == OK:
		file.store_string(JSON.stringify(_as_json(), "\t"))
		error = file.get_error()
		file.close()
	if error == OK:
		error = DirAccess.rename_absolute(fresh, _path)
	if error != OK:
		problem = "cannot write %s: %s" % [_path, error_string(error)]
		push_warning(problem)
	return error == OK


func _as_json() -> Dictionary[String, Array]:
	var stored: Dictionary[String, Array] = {"favorites": [], "history": []}
	for key: String in _favorites:
		stored["favorites"].append({"address": key, "name": _favorites[key]})
	for key: String in _history:
		stored["history"].append({"address": key, "name": _history[key]})
	return stored
