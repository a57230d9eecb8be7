class_name BackendRoomListModel
extends RefCounted
## The rows of the server browser: rooms of a page in the page's order, changed in place by later
## pages.
##
## A page is read a little in each frame. While the list is held, because somebody points at a row,
## no row moves: rooms that are gone stay as such, and new ones come at the end.

## The rows have changed.
signal changed
## A page has been read.
signal finished

const MAX_VALUES := 50
## Rooms that are read in each frame in any case: a library for debugging takes long for each, and
## a list has to appear all the same. With one for release they fit into the budget.
const MIN_ROOMS_PER_FRAME := 64

## Distinct maps, modes and regions seen so far, for filters.
var maps: Dictionary[String, bool] = {}
var modes: Dictionary[String, bool] = {}
var regions: Dictionary[String, bool] = {}

var _saved: BackendSavedRooms
var _rows: PackedStringArray = []
var _page: BackendRoomPage
var _lan: BackendRoomPage
# Page index by row id; rooms of the local network come after those of the page.
var _index_of: Dictionary[String, int] = {}
var _key_of: Dictionary[String, String] = {}
var _gone: Dictionary[String, BackendRoom] = {}
var _offline: Dictionary[String, String] = {}

# A page that is being read.
var _next: BackendRoomPage
var _next_lan: BackendRoomPage
var _next_only: Dictionary[String, String] = {}
var _next_is_filtered := false
var _next_held := false
var _next_at := 0
var _next_rows: PackedStringArray = []
var _next_index_of: Dictionary[String, int] = {}
var _next_key_of: Dictionary[String, String] = {}


func _init(saved: BackendSavedRooms) -> void:
	_saved = saved


func size() -> int:
	return _rows.size()


## The row of a room, or -1.
func find(id: String) -> int:
	return _rows.find(id)


func id_at(row: int) -> String:
	return _rows[row]


func at(row: int) -> BackendListedRoom:
	var listed := BackendListedRoom.new()
	listed.id = _rows[row]
	if _offline.has(listed.id):
		listed.key = listed.id.trim_prefix("saved ")
		listed.name = _offline[listed.id]
	else:
		listed.is_gone = _gone.has(listed.id)
		listed.room = _gone[listed.id] if listed.is_gone else _room(_index_of[listed.id])
		listed.key = _key_of[listed.id]
		listed.name = listed.room.name
	listed.is_favorite = _saved.is_favorite(listed.key)
	return listed


## Whether a page is being read.
func is_reading() -> bool:
	return _next != null


## Starts to read [param page] and the rooms of the local network. If [param held], no row moves.
func start(page: BackendRoomPage, lan: BackendRoomPage, held: bool) -> void:
	_start(page, lan, held)
	_next_is_filtered = false


## The same, with the servers in [param only] and no others; those that are not running as well.
func start_saved(
	page: BackendRoomPage, lan: BackendRoomPage, only: Dictionary[String, String], held: bool
) -> void:
	_start(page, lan, held)
	_next_only = only
	_next_is_filtered = true


## Reads on for about [param budget_usec] microseconds.
func read(budget_usec: int) -> void:
	if _next == null:
		return
	var deadline := Time.get_ticks_usec() + budget_usec
	var total := _next.size() + (_next_lan.size() if _next_lan != null else 0)
	var least := _next_at + MIN_ROOMS_PER_FRAME
	while _next_at < total:
		_read_room(_next_at)
		_next_at += 1
		if _next_at >= least and Time.get_ticks_usec() > deadline:
			return
	_finish()


func _start(page: BackendRoomPage, lan: BackendRoomPage, held: bool) -> void:
	_next = page
	_next_lan = lan
	_next_held = held and not _rows.is_empty()
	_next_at = 0
	_next_rows = []
	_next_index_of = {}
	_next_key_of = {}
	_next_only = {}


func _read_room(index: int) -> void:
	var is_lan := index >= _next.size()
	var room := _next_lan.get_room(index - _next.size()) if is_lan else _next.get_room(index)
	var key := BackendSavedRooms.key_of(room.address, room.port)
	if _next_is_filtered and not _next_only.has(key):
		return
	var id := room.room_id
	if id.is_empty():
		id = "lan " + key
	if _next_index_of.has(id):
		# Found on the local network as well.
		_next_index_of[id] = index
		return
	_next_rows.append(id)
	_next_index_of[id] = index
	_next_key_of[id] = key
	_note(maps, room.map)
	_note(modes, room.mode)
	_note(regions, room.region)


func _note(values: Dictionary[String, bool], value: String) -> void:
	if not value.is_empty() and values.size() < MAX_VALUES:
		values[value] = true


func _finish() -> void:
	var offline: Dictionary[String, String] = {}
	if _next_is_filtered:
		var running := _next_key_of.values()
		for key: String in _next_only:
			if key not in running:
				offline["saved " + key] = _next_only[key]
				_next_rows.append("saved " + key)
	var gone: Dictionary[String, BackendRoom] = {}
	if _next_held:
		gone = _keep_places(offline)
	_rows = _next_rows
	_page = _next
	_lan = _next_lan
	_index_of = _next_index_of
	_key_of = _next_key_of
	_gone = gone
	_offline = offline
	_next = null
	_next_lan = null
	changed.emit()
	finished.emit()


# Puts the rows that were there first, in their order. Returns those whose rooms are gone.
func _keep_places(offline: Dictionary[String, String]) -> Dictionary[String, BackendRoom]:
	var gone: Dictionary[String, BackendRoom] = {}
	var kept: Dictionary[String, bool] = {}
	for id: String in _rows:
		kept[id] = true
		if _next_index_of.has(id) or offline.has(id):
			continue
		if _offline.has(id):
			offline[id] = _offline[id]
			continue
		gone[id] = _gone[id] if _gone.has(id) else _room(_index_of[id])
		_next_key_of[id] = _key_of[id]
	var rows := _rows.duplicate()
	for id: String in _next_rows:
		if not kept.has(id):
			rows.append(id)
	_next_rows = rows
	return gone


func _room(index: int) -> BackendRoom:
	return _page.get_room(index) if index < _page.size() else _lan.get_room(index - _page.size())
