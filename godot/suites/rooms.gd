## Finding a room and getting a ticket for it.
extends "res://backend_suite.gd"


func test_a_registered_server_is_listed_with_what_it_said() -> void:
	var registration := new_registration(unique("Pond"))
	registration.map = "lily"
	registration.mode = "race"
	registration.region = "eu-north"
	registration.version = "1.2.3"
	registration.tags = PackedStringArray(["ranked", "calm"])
	registration.public_address = "192.0.2.7"
	registration.port = 41_234
	registration.max_players = 6
	registration.players = 2
	var registered: BackendRegistrationResult = await registration.register().wait()
	if not succeeded(registered, "register"):
		return
	var rooms := new_rooms(await new_player())
	var page := await rooms_named(rooms, registration.server_name)
	if not (succeeded(page, "list") and check_eq(page.size(), 1, "rooms")):
		return
	var room := page.get_room(0)
	check_eq(room.room_id, registered.server_id, "room id")
	check_eq(room.name, registration.server_name, "name")
	check_eq(room.address, "192.0.2.7", "address")
	check_eq(room.port, 41_234, "port")
	check_eq(room.map, "lily", "map")
	check_eq(room.mode, "race", "mode")
	check_eq(room.region, "eu-north", "region")
	check_eq(room.version, "1.2.3", "version")
	check_eq(room.tags, PackedStringArray(["ranked", "calm"]), "tags")
	check_eq(room.players, 2, "players")
	check_eq(room.max_players, 6, "max players")
	check_eq(room.is_full, false, "full")
	check_eq(room.status, BackendRoom.STATUS_READY, "status")
	check_eq(page.has_more, false, "has more")
	check_eq(page.next_cursor, "", "next cursor")
	check_eq(page.get_room(1), null, "room beyond the end")
	check_eq(page.get_room(-1), null, "room before the start")
	var names: Array[String] = []
	for listed: BackendRoom in page:
		names.append(listed.name)
	check_eq(names, [registration.server_name] as Array[String], "rooms of a for loop")
	# What is left of a loop is not found again by the next one, and an empty list has no first.
	for listed: BackendRoom in page:
		names.append(listed.name)
		for inner: BackendRoom in page:
			names.append(inner.name)
	check_eq(names.size(), 3, "rooms of a loop in a loop")
	for listed: BackendRoom in await rooms_named(rooms, "nobody has this name"):
		check(false, "a room of an empty page: %s" % listed.name)


func test_one_room_by_its_id() -> void:
	var server := await new_server("Single")
	var rooms := new_rooms(await new_player())
	var result: BackendRoomResult = await rooms.get_room(server.server_id).wait()
	if succeeded(result, "get_room"):
		check_eq(result.room.room_id, server.server_id, "room id")
		check_eq(result.room.name, server.server_name, "name")


func test_a_room_that_does_not_exist() -> void:
	var rooms := new_rooms(await new_player())
	var absent := "00000000-0000-7000-8000-000000000000"
	var result: BackendRoomResult = await rooms.get_room(absent).wait()
	failed_with(result, "room_not_found", "get_room")
	check_eq(result.room, null, "room")
	failed_with(await rooms.request_ticket(absent).wait(), "room_not_found", "request_ticket")


func test_a_room_id_that_is_none_never_reaches_another_path() -> void:
	var rooms := new_rooms(await new_player())
	for room_id: String in ["", "../players/me/documents", "a b", "x".repeat(65), "ä"]:
		var result: BackendRoomResult = await rooms.get_room(room_id).wait()
		failed_with(result, "invalid_field", "get_room(%s)" % room_id, "room_id")


func test_filters_keep_what_matches() -> void:
	var word := unique("Filter")
	var small := new_registration(word + " small")
	small.map = "lily"
	small.tags = PackedStringArray(["a", "b"])
	small.max_players = 1
	small.players = 1
	var large := new_registration(word + " large")
	large.map = "reed"
	large.tags = PackedStringArray(["b"])
	large.max_players = 9
	succeeded(await small.register().wait(), "register small")
	succeeded(await large.register().wait(), "register large")
	var rooms := new_rooms(await new_player())
	var query := BackendRoomQuery.new()
	query.search = word.to_upper()
	query.sort = BackendRoomQuery.SORT_NAME
	check_eq(await names(rooms, query), [large.server_name, small.server_name], "by name")
	query.descending = true
	check_eq(
		await names(rooms, query), [small.server_name, large.server_name], "by name, descending"
	)
	query.map = "lily"
	check_eq(await names(rooms, query), [small.server_name], "map")
	query.map = ""
	query.tags = PackedStringArray(["b", "a"])
	check_eq(await names(rooms, query), [small.server_name], "tags")
	query.tags = PackedStringArray()
	query.not_full = true
	check_eq(await names(rooms, query), [large.server_name], "not full")
	query.not_full = false
	query.not_empty = true
	check_eq(await names(rooms, query), [small.server_name], "not empty")
	query.mode = "nobody plays this"
	check_eq(await names(rooms, query), [], "mode")


func test_conditions_on_attributes_filter_there_and_here() -> void:
	var word := unique("Attributes")
	var first := new_registration(word + " first")
	first.attributes = {"round": 1, "size": "small", "ranked": true}
	first.map = "reed"
	var second := new_registration(word + " second")
	second.attributes = {"round": 2.5, "size": "large", "ranked": false}
	second.map = "lily"
	second.password = "frog"
	second.max_players = 4
	succeeded(await first.register().wait(), "register first")
	succeeded(await second.register().wait(), "register second")
	var rooms := new_rooms(await new_player())
	var all := await rooms_named(rooms, word)
	for case: Array in [
		["round", ">=", 2, [second]],
		["round", "<", 2.5, [first]],
		["round", "=", 1.0, [first]],
		["size", "!=", "small", [second]],
		["size", "in", ["small", "large"], [first, second]],
		["size", "in", PackedStringArray(["small"]), [first]],
		["ranked", "=", true, [first]],
		["missing", "=", 1, []],
	]:
		var query := BackendRoomQuery.new()
		query.search = word
		query.where(case[0], case[1], case[2])
		var expected: Array = case[3].map(
			func(server: BackendServerRegistration) -> String: return server.server_name
		)
		check_eq(await names(rooms, query), expected, "from the backend: %s" % [case.slice(0, 3)])
		var here: BackendRoomPage = await rooms.select_rooms(all, query).wait()
		check_eq(names_of(here), expected, "from the loaded rooms: %s" % [case.slice(0, 3)])
	var open := BackendRoomQuery.new()
	open.search = word
	open.no_password = true
	check_eq(await names(rooms, open), [first.server_name], "without a password")
	var sorted := BackendRoomQuery.new()
	sorted.search = word
	for sort: int in [BackendRoomQuery.SORT_MAP, BackendRoomQuery.SORT_MAX_PLAYERS]:
		sorted.sort = sort
		check_eq(
			await names(rooms, sorted), [second.server_name, first.server_name], "sort %d" % sort
		)
	sorted.fields = PackedStringArray(["name", "attributes"])
	var page: BackendRoomPage = await rooms.list_rooms(sorted).wait()
	if succeeded(page, "with fields") and check_eq(page.size(), 2, "rooms"):
		check_eq(page.get_room(1).attributes, first.attributes, "attributes")
		check_eq(page.get_room(1).room_id, first.server_id, "room id")
		check_eq(page.get_room(1).map, "", "a field that was not selected")


func test_conditions_that_are_none_name_the_field() -> void:
	var rooms := new_rooms(await new_player())
	for case: Array in [
		["round", "==", 1],
		["a b", "=", 1],
		["round", "=", Vector2.ONE],
		["round", "in", 1],
		["round", "=", [1]],
		["ranked", "<", true],
	]:
		var query := BackendRoomQuery.new()
		query.where(case[0], case[1], case[2])
		var page: BackendRoomPage = await rooms.list_rooms(query).wait()
		failed_with(page, "invalid_field", "%s" % [case])
	var query := BackendRoomQuery.new()
	query.fields = PackedStringArray(["password_hash"])
	failed_with(await rooms.list_rooms(query).wait(), "invalid_field", "fields", "fields")


func test_pages_hold_every_room_once() -> void:
	var word := unique("Page")
	var expected: Array[String] = []
	for index in 5:
		var registration := new_registration("%s %d" % [word, index])
		succeeded(await registration.register().wait(), "register %d" % index)
		expected.append(registration.server_name)
	var rooms := new_rooms(await new_player())
	var query := BackendRoomQuery.new()
	query.search = word
	query.sort = BackendRoomQuery.SORT_NAME
	query.limit = 2
	var seen: Array[String] = []
	for _page in 3:
		var page: BackendRoomPage = await rooms.list_rooms(query).wait()
		if not succeeded(page, "page"):
			return
		for index in page.size():
			seen.append(page.get_room(index).name)
		check_eq(page.has_more, seen.size() < 5, "has more after %d" % seen.size())
		query.cursor = page.next_cursor
	check_eq(seen, expected, "rooms over all pages")


func test_all_rooms_are_ordered_and_filtered_here() -> void:
	var word := unique("All")
	var expected: Array[String] = []
	for index in 5:
		var registration := new_registration("%s %d" % [word, index])
		registration.max_players = 4
		registration.players = 4 - index
		registration.map = "lily" if index % 2 == 0 else "reed"
		succeeded(await registration.register().wait(), "register %d" % index)
		expected.append(registration.server_name)
	var rooms := new_rooms(await new_player())
	var query := BackendRoomQuery.new()
	query.search = word
	query.limit = 2
	var all: BackendRoomPage = await rooms.list_all_rooms(query).wait()
	if not succeeded(all, "list all"):
		return
	check_eq(names_of(all), expected, "all")
	check_eq(all.has_more, false, "has more")
	query.sort = BackendRoomQuery.SORT_PLAYERS
	var by_players: BackendRoomPage = await rooms.select_rooms(all, query).wait()
	if succeeded(by_players, "select"):
		var reversed := expected.duplicate()
		reversed.reverse()
		check_eq(names_of(by_players), reversed, "by players")
		check_eq(by_players.get_room(5), null, "room beyond the end")
	query.map = "lily"
	query.not_full = true
	var few: BackendRoomPage = await rooms.select_rooms(by_players, query).wait()
	if succeeded(few, "select from a selection"):
		check_eq(names_of(few), [expected[4], expected[2]], "lily, not full")
	check_eq(names_of(all), expected, "all, afterwards")
	var nothing: BackendRoomPage = await rooms.select_rooms(all, null).wait()
	check_eq(nothing.size(), 5, "without a query")
	query.search = "x".repeat(65)
	failed_with(await rooms.select_rooms(all, query).wait(), "invalid_field", "bad query", "search")
	failed_with(await rooms.select_rooms(null, null).wait(), "invalid_field", "no page", "page")


func test_bad_queries_name_the_field() -> void:
	var rooms := new_rooms(await new_player())
	var query := BackendRoomQuery.new()
	query.limit = 201
	failed_with(await rooms.list_rooms(query).wait(), "invalid_field", "limit", "limit")
	query.limit = -1
	failed_with(await rooms.list_rooms(query).wait(), "invalid_field", "negative limit", "limit")
	query.limit = 50
	query.search = "x".repeat(65)
	failed_with(await rooms.list_rooms(query).wait(), "invalid_field", "search", "search")
	query.search = ""
	query.cursor = "from-elsewhere"
	failed_with(await rooms.list_rooms(query).wait(), "invalid_cursor", "cursor")


func test_a_ticket_names_the_place_to_go() -> void:
	var server := await new_server("Ticket")
	var rooms := new_rooms(await new_player())
	var ticket: BackendJoinTicket = await rooms.request_ticket(server.server_id).wait()
	if succeeded(ticket, "ticket"):
		check_eq(ticket.ticket.split(".").size(), 3, "parts of the ticket")
		check_eq(ticket.room_id, server.server_id, "room id")
		check_eq(ticket.address, "127.0.0.1", "address")
		check_eq(ticket.port, server.port, "port")
		check(
			ticket.expires_in_seconds > 0 and ticket.expires_in_seconds <= 60, "life of the ticket"
		)


func test_a_full_room_gives_no_ticket() -> void:
	var registration := new_registration(unique("Full"))
	registration.max_players = 1
	registration.players = 1
	succeeded(await registration.register().wait(), "register")
	var rooms := new_rooms(await new_player())
	var ticket: BackendJoinTicket = await rooms.request_ticket(registration.server_id).wait()
	failed_with(ticket, "room_full", "ticket")
	check_eq(ticket.ticket, "", "ticket")


func test_rooms_need_a_session_that_is_logged_in() -> void:
	var rooms := new_rooms(new_session())
	failed_with(await rooms.list_rooms().wait(), "not_logged_in", "list")
	failed_with(await rooms.request_ticket("somewhere").wait(), "not_logged_in", "ticket")


func test_rooms_without_a_session_say_what_is_missing() -> void:
	var rooms := BackendRooms.new()
	add_child(rooms)
	var page: BackendRoomPage = await rooms.list_rooms().wait()
	failed_with(page, "not_configured", "list")
	check_eq(page.size(), 0, "size of a failed page")


func names(rooms: BackendRooms, query: BackendRoomQuery) -> Array:
	var page: BackendRoomPage = await rooms.list_rooms(query).wait()
	succeeded(page, "list")
	return names_of(page)


func names_of(page: BackendRoomPage) -> Array:
	return range(page.size()).map(func(index: int) -> String: return page.get_room(index).name)
