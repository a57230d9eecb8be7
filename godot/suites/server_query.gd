## Queries over UDP: pings of rooms, servers on the local network, and the port that answers.
extends "res://backend_suite.gd"


func test_a_room_is_pinged_and_says_who_is_there() -> void:
	var registration := await new_server("Pinged")
	registration.players = 3
	var rooms := new_rooms(await new_player())
	var page := await rooms_named(rooms, registration.server_name)
	if not (succeeded(page, "list") and check_eq(page.size(), 1, "rooms")):
		return
	var room := page.get_room(0)
	check_eq(room.is_lan, false, "LAN")
	check(room.query_port > 0, "the room has no query port")
	check_eq(room.query_port, registration.get_bound_query_port(), "query port")
	check_eq(registration.query_port, 0, "the property stays as it was set")
	var pings := await pings_of(rooms, page)
	var ping := pings.get_ping(0)
	if not (check_eq(pings.size(), 1, "pings") and succeeded(ping, "ping")):
		return
	check(ping.latency_ms > 0.0, "latency: %f" % ping.latency_ms)
	check(ping.jitter_ms >= 0.0, "jitter: %f" % ping.jitter_ms)
	check(ping.loss < 1.0, "loss: %f" % ping.loss)
	check_eq(ping.players, 3, "players")
	check_eq(ping.max_players, 8, "max players")
	check_eq(ping.status, BackendRoom.STATUS_READY, "status")
	check_eq(pings.find_ping(room.room_id).players, 3, "players by id")
	check_eq(pings.find_ping("nobody"), null, "an unknown room")
	check_eq(pings.get_ping(1), null, "beyond the end")
	check_eq(pings.get_ping(-1), null, "before the start")
	registration.set_draining(true)
	ping = (await pings_of(rooms, page)).get_ping(0)
	check_eq(ping.status, BackendRoom.STATUS_DRAINING, "status while draining")


func test_a_server_that_answers_no_queries_has_an_error_of_its_own() -> void:
	var answering := await new_server("Group A")
	var silent := new_registration(answering.server_name + " B")
	silent.query_enabled = false
	succeeded(await silent.register().wait(), "register")
	check_eq(silent.get_bound_query_port(), 0, "bound query port")
	var rooms := new_rooms(await new_player())
	var page := await rooms_named(rooms, answering.server_name)
	check_eq(page.size(), 2, "rooms")
	check_eq(page.get_room(1).query_port, 0, "query port")
	var pings := await pings_of(rooms, page)
	succeeded(pings.get_ping(0), "the one that answers")
	failed_with(pings.get_ping(1), "invalid_field", "the one that does not", "query_port")
	failed_with(await rooms.ping_rooms(null).wait(), "invalid_field", "no page", "page")


func test_rooms_are_sorted_by_their_pings() -> void:
	var first := await new_server("Order A")
	var silent := new_registration(first.server_name + " B")
	silent.query_enabled = false
	succeeded(await silent.register().wait(), "register")
	var last := new_registration(first.server_name + " C")
	succeeded(await last.register().wait(), "register")
	var rooms := new_rooms(await new_player())
	var page := await rooms_named(rooms, first.server_name)
	var pings := await pings_of(rooms, page)
	check_eq(pings.get_room_id(0), first.server_id, "id")
	check_eq(pings.get_room_id(3), "", "beyond the end")
	var query := BackendRoomQuery.new()
	for descending: bool in [false, true]:
		query.descending = descending
		var sorted: BackendRoomPage = await rooms.select_rooms(page, query, pings).wait()
		check_eq(sorted.size(), 3, "rooms")
		check_eq(sorted.get_room(2).room_id, silent.server_id, "without a ping")
		var before := pings.find_ping(sorted.get_room(0).room_id).latency_ms
		var after := pings.find_ping(sorted.get_room(1).room_id).latency_ms
		check(before == after or (before > after) == descending, "%f, %f" % [before, after])
	var failed: BackendRoomPings = await rooms.ping_rooms(null).wait()
	failed_with(
		await rooms.select_rooms(page, query, failed).wait(), "invalid_field", "no pings", "pings"
	)


func test_without_regions_the_nearest_one_is_any() -> void:
	var registration := await new_server("Anywhere")
	var rooms := new_rooms(await new_player())
	var regions: BackendRegionPings = await rooms.ping_regions().wait()
	succeeded(regions, "ping_regions")
	check_eq(regions.size(), 0, "regions")
	check_eq(regions.nearest_region, "", "nearest")
	check_eq(regions.get_latencies(), {}, "latencies")
	check_eq(regions.get_region(0), "", "beyond the end")
	check_eq(regions.get_ping(0), null, "beyond the end")
	var query := BackendRoomQuery.new()
	query.search = registration.server_name
	query.region = "nearest"
	var page: BackendRoomPage = await rooms.list_rooms(query).wait()
	check_eq(page.size(), 1, "rooms of any region")


func test_a_server_that_left_the_list_does_not_answer() -> void:
	var registration := await new_server("Leaving")
	var rooms := new_rooms(await new_player())
	var page := await rooms_named(rooms, registration.server_name)
	succeeded(await registration.deregister().wait(), "deregister")
	check_eq(registration.get_bound_query_port(), 0, "bound query port")
	failed_with((await pings_of(rooms, page)).get_ping(0), "timeout", "ping")
	succeeded(await registration.register().wait(), "register again")
	check(registration.get_bound_query_port() > 0, "it does not answer again")


func test_a_taken_port_is_a_warning_and_the_server_runs_on() -> void:
	var first := await new_server("First")
	var second := new_registration(unique("Second"))
	second.query_port = first.get_bound_query_port()
	succeeded(await second.register().wait(), "register")
	check_eq(second.get_bound_query_port(), 0, "bound query port")
	var bad := new_registration(unique("Bad"))
	bad.query_port = 65_536
	failed_with(await bad.register().wait(), "invalid_field", "65536", "query_port")


func test_servers_on_the_local_network_are_found_without_a_session() -> void:
	var registration := await new_server("Local")
	registration.map = "lily"
	var hidden := new_registration(unique("Hidden"))
	hidden.lan_discovery = false
	succeeded(await hidden.register().wait(), "register")
	var unlisted := new_registration(unique("Unlisted"), config_for("http://127.0.0.1:9"))
	var request := unlisted.register()
	await until(
		func() -> bool: return unlisted.get_bound_query_port() > 0,
		WAIT_TIMEOUT,
		"a server without backend"
	)
	var rooms := BackendRooms.new()
	add_child(rooms)
	var page: BackendRoomPage = await rooms.discover_lan().wait()
	if not succeeded(page, "discover_lan"):
		return
	var found := room_in(page, registration.server_name)
	if check(found != null, "the server was not found"):
		check_eq(found.is_lan, true, "LAN")
		check_eq(found.room_id, registration.server_id, "room id")
		check_eq(found.port, registration.port, "port")
		check_eq(found.map, "lily", "map")
		check(found.address.is_valid_ip_address(), "address: %s" % found.address)
	check_eq(room_in(page, hidden.server_name), null, "a server that does not want to be found")
	var alone := room_in(page, unlisted.server_name)
	if check(alone != null, "a server without a backend was not found"):
		check_eq(alone.room_id, "", "room id")
		check_eq(alone.query_port, unlisted.get_bound_query_port(), "query port")
	check(not request.is_done() or request.result.failed(), "registered without a backend")
	var pings := await pings_of(rooms, page)
	check_eq(pings.size(), page.size(), "pings")
	succeeded(pings.find_ping(registration.server_id), "ping")


func pings_of(rooms: BackendRooms, page: BackendRoomPage) -> BackendRoomPings:
	var pings: BackendRoomPings = await rooms.ping_rooms(page).wait()
	succeeded(pings, "ping_rooms")
	return pings


func room_in(page: BackendRoomPage, server_name: String) -> BackendRoom:
	for index in page.size():
		if page.get_room(index).name == server_name:
			return page.get_room(index)
	return null
