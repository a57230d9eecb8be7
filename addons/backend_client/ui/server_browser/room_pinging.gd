class_name BackendRoomPinging
extends Node
## Measures the pings of a list, a moment after it has come to rest. Hundreds of servers answer
## within two seconds; of a longer list none is measured.

## The list shows what was measured.
signal measured

const _DELAY := 0.25
const _MAX_ROOMS := 500
## The same for a player who sorts by ping, and waits a few seconds for it.
const _MAX_ROOMS_TO_SORT := 2000

## What was measured last, or [code]null[/code].
var pings: BackendRoomPings

# Seconds until the next measurement; negative if none is wanted.
var _due_in := -1.0
var _is_busy := false

@onready var _list: BackendRoomList = get_node("%List")


## Whether pings are being measured.
func is_busy() -> bool:
	return _is_busy


## Measures what the list shows, as soon as it is left alone for a moment.
func request() -> void:
	_due_in = _DELAY


## Counts down to the next measurement of [param shown], by which the list may be sorted.
func advance(delta: float, rooms: BackendRooms, shown: BackendRoomPage, is_sorted: bool) -> void:
	if _due_in < 0.0 or _is_busy:
		return
	_due_in -= delta
	if _due_in < 0.0:
		_measure(rooms, shown, _MAX_ROOMS_TO_SORT if is_sorted else _MAX_ROOMS)


func _measure(rooms: BackendRooms, shown: BackendRoomPage, max_rooms: int) -> void:
	if shown == null or shown.size() > max_rooms or not _is_ping_missing():
		return
	_is_busy = true
	var answers: BackendRoomPings = await rooms.ping_rooms(shown).wait()
	_is_busy = false
	if not is_inside_tree():
		return
	for index: int in answers.size():
		var ping := answers.get_ping(index)
		_list.show_ping(answers.get_room_id(index), ping.latency_ms if ping.ok() else -1.0)
	# What was not measured, as it is on the local network alone, is not waited for either.
	for id: String in _list.get_visible_ids():
		if not _list.has_ping_of(id):
			_list.show_ping(id, -1.0)
	if answers.ok():
		pings = answers
	measured.emit()


func _is_ping_missing() -> bool:
	for id: String in _list.get_visible_ids():
		if not _list.has_ping_of(id):
			return true
	return false
