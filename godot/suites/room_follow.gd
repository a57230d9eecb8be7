## Room lists that change by themselves.
extends "res://backend_suite.gd"

const BLOCKED := """HTTP/1.1 406 Not Acceptable\r
Content-Type: text/html\r
Content-Length: 14\r
Connection: close\r
\r
<p>No such</p>"""


## The signals of a followed list, and the list that they make.
class Told:
	extends RefCounted

	var names: Dictionary[String, String] = {}
	var players: Dictionary[String, int] = {}
	var states: Array[int] = []
	var contradictions: PackedStringArray = []

	func _init(follow: BackendRoomFollow) -> void:
		follow.room_added.connect(_on_added)
		follow.room_changed.connect(_on_changed)
		follow.room_removed.connect(_on_removed)
		follow.state_changed.connect(func(state: int) -> void: states.append(state))

	func sorted_names() -> Array[String]:
		var sorted: Array[String] = []
		sorted.assign(names.values())
		sorted.sort()
		return sorted

	func _on_added(room: BackendRoom) -> void:
		if names.has(room.room_id):
			contradictions.append("%s was added twice" % room.name)
		_note(room)

	func _on_changed(room: BackendRoom) -> void:
		if not names.has(room.room_id):
			contradictions.append("%s changed without being there" % room.name)
		_note(room)

	func _on_removed(room: BackendRoom) -> void:
		if not names.erase(room.room_id):
			contradictions.append("%s was removed without being there" % room.name)

	func _note(room: BackendRoom) -> void:
		names[room.room_id] = room.name
		players[room.room_id] = room.players


func _query(word: String) -> BackendRoomQuery:
	var query := BackendRoomQuery.new()
	query.search = word
	return query


func _follow(rooms: BackendRooms, word: String) -> BackendRoomFollow:
	return rooms.follow(_query(word))


func _until_names(told: Told, expected: Array[String], what: String) -> bool:
	var is_met := func() -> bool: return told.sorted_names() == expected
	if await until(is_met, WAIT_TIMEOUT, what):
		return check_eq(told.contradictions, PackedStringArray(), what)
	fail("%s: %s" % [what, told.sorted_names()])
	return false


func _names_in(page: BackendRoomPage) -> Array[String]:
	var names: Array[String] = []
	for index: int in page.size():
		names.append(page.get_room(index).name)
	return names


func test_a_followed_list_changes_by_itself() -> void:
	var word := unique("Follow")
	var first := await new_server(word + " a")
	var rooms := new_rooms(await new_player())
	var follow := _follow(rooms, word)
	var told := Told.new(follow)
	var changes := record(follow.list_changed)
	check_eq(follow.state, BackendRoomFollow.STATE_LOADING, "state at first")
	await _until_names(told, [first.server_name], "the first room")
	await until(func() -> bool: return not told.states.is_empty(), WAIT_TIMEOUT, "state")
	check_eq(told.states, [BackendRoomFollow.STATE_LIVE] as Array[int], "states")
	check(changes.size() > 0, "list_changed")
	var second := await new_server(word + " b")
	await _until_names(told, [first.server_name, second.server_name], "a second room")
	check_eq(
		_names_in(follow.get_rooms()), [first.server_name, second.server_name], "the list by name"
	)
	second.players = 3
	await until(
		func() -> bool: return told.players[second.server_id] == 3,
		WAIT_TIMEOUT,
		"players of the second"
	)
	succeeded(await first.deregister().wait(), "deregister")
	await _until_names(told, [second.server_name], "without the first")
	check_eq(_names_in(follow.get_rooms()), [second.server_name], "the list")
	check_eq(follow.error, null, "error")


func test_a_room_that_leaves_the_query_is_removed() -> void:
	var word := unique("Leaves")
	var server := await new_server(word)
	var rooms := new_rooms(await new_player())
	var query := _query(word)
	query.not_full = true
	var told := Told.new(rooms.follow(query))
	await _until_names(told, [server.server_name], "the room")
	server.players = server.max_players
	await _until_names(told, [], "full")
	server.players = 1
	await _until_names(told, [server.server_name], "with a free place")
	server.visibility = BackendServerRegistration.VISIBILITY_PRIVATE
	await _until_names(told, [], "private")


func test_a_break_leaves_no_gap() -> void:
	var word := unique("Break")
	var proxy := new_proxy()
	var gone := await new_server(word + " gone")
	var stays := await new_server(word + " stays")
	var rooms := new_rooms(await new_player("Guest", config_for(proxy.url())))
	var follow := _follow(rooms, word)
	var told := Told.new(follow)
	await _until_names(told, [gone.server_name, stays.server_name], "before the break")
	proxy.cut_line()
	await until(
		func() -> bool: return follow.state == BackendRoomFollow.STATE_RECONNECTING,
		WAIT_TIMEOUT,
		"the break is noticed"
	)
	check_eq(follow.get_rooms().size(), 2, "the list stays")
	succeeded(await gone.deregister().wait(), "deregister")
	stays.players = 5
	var new := await new_server(word + " new")
	proxy.connect_line()
	var expected: Array[String] = [new.server_name, stays.server_name]
	await _until_names(told, expected, "after the break")
	await until(
		func() -> bool: return told.players[stays.server_id] == 5, WAIT_TIMEOUT, "changed meanwhile"
	)
	await until(
		func() -> bool: return follow.state == BackendRoomFollow.STATE_LIVE,
		WAIT_TIMEOUT,
		"live again"
	)
	check(BackendRoomFollow.STATE_POLLING not in told.states, "polled: %s" % [told.states])


func test_where_no_events_arrive_the_list_is_polled() -> void:
	var word := unique("Blocked")
	var proxy := new_proxy()
	proxy.answer_instead("GET /v1/rooms/events", BLOCKED.to_utf8_buffer())
	var first := await new_server(word + " a")
	var rooms := new_rooms(await new_player("Guest", config_for(proxy.url())))
	var follow := _follow(rooms, word)
	var told := Told.new(follow)
	await _until_names(told, [first.server_name], "the first room")
	await until(
		func() -> bool: return follow.state == BackendRoomFollow.STATE_POLLING,
		WAIT_TIMEOUT,
		"polling"
	)
	var second := await new_server(word + " b")
	await _until_names(told, [first.server_name, second.server_name], "a second room")
	succeeded(await first.deregister().wait(), "deregister")
	await _until_names(told, [second.server_name], "without the first")


func test_stop_is_final() -> void:
	var word := unique("Stop")
	var server := await new_server(word)
	var rooms := new_rooms(await new_player())
	var follow := _follow(rooms, word)
	var told := Told.new(follow)
	await _until_names(told, [server.server_name], "the room")
	await until(
		func() -> bool: return follow.state == BackendRoomFollow.STATE_LIVE, WAIT_TIMEOUT, "live"
	)
	follow.stop()
	follow.stop()
	check_eq(follow.state, BackendRoomFollow.STATE_STOPPED, "state")
	check_eq(
		told.states,
		[BackendRoomFollow.STATE_LIVE, BackendRoomFollow.STATE_STOPPED] as Array[int],
		"states"
	)
	succeeded(await server.deregister().wait(), "deregister")
	var other := Told.new(_follow(rooms, word))
	await frames(30)
	check_eq(told.sorted_names(), [server.server_name] as Array[String], "nothing after the stop")
	check_eq(other.sorted_names(), [] as Array[String], "another one goes on")
	check_eq(follow.get_rooms().size(), 1, "the list stays as it was")


func test_it_may_be_stopped_by_its_own_signals() -> void:
	var word := unique("Handler")
	await new_server(word + " a")
	await new_server(word + " b")
	var rooms := new_rooms(await new_player())
	var follow := _follow(rooms, word)
	var added := record(follow.room_added)
	follow.room_added.connect(func(_room: BackendRoom) -> void: follow.stop())
	await until(func() -> bool: return not added.is_empty(), WAIT_TIMEOUT, "a room")
	await frames(30)
	check_eq(added.size(), 1, "rooms after the stop")


func test_who_awaits_the_list_goes_on_at_its_end() -> void:
	var rooms := new_rooms(await new_player())
	var follow := _follow(rooms, unique("Nobody"))
	await until(
		func() -> bool: return follow.state == BackendRoomFollow.STATE_LIVE, WAIT_TIMEOUT, "live"
	)
	var went_on: Array[String] = []
	var wait := func() -> void:
		await follow.list_changed
		went_on.append("stopped")
	wait.call()
	await frames(30)
	check_eq(went_on, [] as Array[String], "nothing has changed")
	follow.stop()
	check_eq(went_on, ["stopped"] as Array[String], "stopped")
	var failed := new_rooms(new_session()).follow()
	wait = func() -> void:
		await failed.list_changed
		went_on.append("failed")
	wait.call()
	await until(func() -> bool: return went_on.size() == 2, WAIT_TIMEOUT, "failed")


func test_it_ends_with_a_node_that_never_was_in_the_tree() -> void:
	var session := await new_player()
	var rooms := BackendRooms.new()
	rooms.session = session
	rooms.config = session.config
	var follow := _follow(rooms, unique("Lonely"))
	var states := record(follow.state_changed)
	await until(func() -> bool: return states.size() == 1, WAIT_TIMEOUT, "live")
	rooms.free()
	await until(func() -> bool: return states.size() == 2, WAIT_TIMEOUT, "stopped")
	check_eq(follow.state, BackendRoomFollow.STATE_STOPPED, "state")
	check(not follow.state_changed.has_connections(), "its handlers are let go")


func test_who_awaits_the_list_of_a_node_outside_the_tree_goes_on() -> void:
	var session := await new_player()
	var rooms := BackendRooms.new()
	rooms.session = session
	rooms.config = session.config
	var query := _query(unique("Nobody"))
	var went_on: Array[String] = []
	var wait := func() -> void:
		var changed := rooms.follow(query).list_changed
		# A signal does not hold its object: only the node does.
		await changed
		went_on.append("freed")
	wait.call()
	await frames(30)
	check_eq(went_on, [] as Array[String], "nothing has changed")
	rooms.free()
	check_eq(went_on, [] as Array[String], "not while it is being freed")
	await until(func() -> bool: return not went_on.is_empty(), WAIT_TIMEOUT, "freed")


func test_it_ends_when_the_node_leaves_the_tree() -> void:
	var word := unique("Tree")
	await new_server(word)
	var rooms := new_rooms(await new_player())
	# Not stored: it goes on all the same.
	var told := Told.new(_follow(rooms, word))
	await until(func() -> bool: return told.names.size() == 1, WAIT_TIMEOUT, "the room")
	await until(func() -> bool: return not told.states.is_empty(), WAIT_TIMEOUT, "live")
	rooms.queue_free()
	await until(
		func() -> bool: return BackendRoomFollow.STATE_STOPPED in told.states,
		WAIT_TIMEOUT,
		"stopped"
	)


func test_what_cannot_be_followed_says_why() -> void:
	var rooms := new_rooms(await new_player())
	var query := BackendRoomQuery.new()
	query.search = "x".repeat(65)
	var follow := rooms.follow(query)
	check_eq(
		await within(WAIT_TIMEOUT, follow.state_changed),
		BackendRoomFollow.STATE_FAILED,
		"a bad query"
	)
	check_eq(follow.error.code, "invalid_field", "code")
	check_eq(follow.error.field, "search", "field")
	var nobody := new_rooms(new_session())
	follow = nobody.follow()
	check_eq(
		await within(WAIT_TIMEOUT, follow.state_changed),
		BackendRoomFollow.STATE_FAILED,
		"logged out"
	)
	check_eq(follow.error.code, "not_logged_in", "code without a session")
	check_eq(follow.get_rooms().size(), 0, "rooms")
