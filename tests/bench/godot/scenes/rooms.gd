extends "res://scenes/room_scene.gd"
## Lists of rooms, one after another: by the addon, or by HTTPRequest and JSON.parse_string.

const ROWS := 50
## Lists handed over at once: one is too quick for the clock.
const AT_ONCE := 50

## Per list, in microseconds.
var _times: Dictionary[String, Array] = {}


func _ready() -> void:
	Engine.max_fps = 60
	var list: Callable = _addon if argument("way") == "addon" else _request
	# The first opens connections and warms caches.
	await list.call()
	_times.clear()
	for _list in int(argument("lists")):
		await list.call()
	var figures := {}
	for measure in _times:
		figures[measure] = median(Array(_times[measure], TYPE_FLOAT, "", null))
	conclude(figures)


func _addon() -> void:
	await log_in()
	var query := query_of_list()
	await get_tree().process_frame
	var listing := rooms.list_all_rooms.bind(query)
	var page: BackendRoomPage = await _timed("main_thread_us", listing, 1)
	check_size(page)
	var begun := Time.get_ticks_usec()
	var text := 0
	for index in mini(ROWS, page.size()):
		var room := page.get_room(index)
		text += room.name.length() + room.map.length() + room.region.length()
		text += room.players + room.max_players
	_note("first_50_rows_us", Time.get_ticks_usec() - begun)
	query.sort = BackendRoomQuery.SORT_PLAYERS
	query.not_full = true
	var selecting := rooms.select_rooms.bind(page, query)
	var shown: BackendRoomPage = await _timed("order_and_filter_us", selecting, AT_ONCE)
	check(shown.ok() and shown.get_room(shown.size() - 1).players < 8 and text > 0, "selected")
	begun = Time.get_ticks_usec()
	shown = null
	page = null
	_note("free_us", Time.get_ticks_usec() - begun)
	rooms.queue_free()
	session.queue_free()
	await get_tree().process_frame


## The result of the last of the requests that `call` makes, `count` at once. Under `measure` goes
## what each takes of the main thread, from the call to its result: processor time without that of
## idle frames.
func _timed(measure: String, call: Callable, count: int) -> RefCounted:
	var idle := await idle_frame_usec()
	var requests: Array[BackendRequest] = []
	var first := Engine.get_process_frames()
	var begun := processor_usec()
	for _request in count:
		requests.append(call.call())
	while not requests.all(func(request: BackendRequest) -> bool: return request.is_done()):
		await get_tree().process_frame
	await settle()
	var frames := Engine.get_process_frames() - first
	_note(measure, (processor_usec() - begun - idle * frames) / count)
	return requests[-1].result


func _request() -> void:
	var request := HTTPRequest.new()
	add_child(request)
	var idle := await idle_frame_usec()
	var first := Engine.get_process_frames()
	var begun := processor_usec()
	request.request(argument("url") + "/rooms/%d" % size)
	var reply: Array = await request.request_completed
	var body: PackedByteArray = reply[3]
	var parsing := Time.get_ticks_usec()
	var list: Dictionary = JSON.parse_string(body.get_string_from_utf8())
	_note("parse_us", Time.get_ticks_usec() - parsing)
	var found: Array = list["rooms"]
	var reading := Time.get_ticks_usec()
	var text := 0
	for index in mini(ROWS, found.size()):
		var room: Dictionary = found[index]
		text += (room["name"] as String).length() + (room["map"] as String).length()
		text += (
			(room["region"] as String).length() + int(room["players"]) + int(room["max_players"])
		)
	_note("first_50_rows_us", Time.get_ticks_usec() - reading)
	check(found.size() == size and text > 0, "a list of %d rooms" % size)
	await settle()
	var frames := Engine.get_process_frames() - first
	_note("main_thread_us", processor_usec() - begun - idle * frames)
	begun = Time.get_ticks_usec()
	var shown := found.filter(
		func(room: Dictionary) -> bool: return room["players"] < room["max_players"]
	)
	shown.sort_custom(
		func(a: Dictionary, b: Dictionary) -> bool: return a["players"] < b["players"]
	)
	_note("order_and_filter_us", Time.get_ticks_usec() - begun)
	begun = Time.get_ticks_usec()
	shown.clear()
	found = []
	list.clear()
	_note("free_us", Time.get_ticks_usec() - begun)
	request.queue_free()


func _note(measure: String, usec: float) -> void:
	_times.get_or_add(measure, []).append(usec)
