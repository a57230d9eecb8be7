## Keeping a server listed, and taking it off the list.
extends "res://backend_suite.gd"

## A heartbeat carries what changed; it may take as long as the backend's heartbeat interval, 30 s
## by default.
const HEARTBEAT_TIMEOUT := 45.0
const MultiplayerBranch := preload("res://multiplayer_branch.gd")
const AdminClient := preload("res://admin_client.gd")
const WarningLog := preload("res://warning_log.gd")


func test_register_gives_an_id_and_lists_the_server() -> void:
	var registration := new_registration(unique("Listed"))
	var registrations := record(registration.registered)
	check_eq(registration.is_registered(), false, "registered before")
	var registered: BackendRegistrationResult = await registration.register().wait()
	if not succeeded(registered, "register"):
		return
	check_eq(registration.is_registered(), true, "registered")
	check_eq(registration.server_id, registered.server_id, "server id of the node")
	check_eq(registrations, [[registered.server_id]], "emissions of registered")
	var page := await rooms_named(new_rooms(await new_player()), registration.server_name)
	check_eq(page.size(), 1, "rooms")


func test_the_operator_asks_a_server_to_drain() -> void:
	var registration := await new_server("Drained")
	var requests := record(registration.drain_requested)
	var admin := AdminClient.new()
	add_child(admin)
	check_eq(await admin.drain(registration.server_id), 204, "answer")
	# The reply to a heartbeat carries it; a change sends one at once.
	registration.map = "last"
	await until(func() -> bool: return not requests.is_empty(), HEARTBEAT_TIMEOUT, "a request")


func test_registering_again_keeps_the_id() -> void:
	var registration := await new_server("Again")
	var server_id := registration.server_id
	var again: BackendRegistrationResult = await registration.register().wait()
	succeeded(again, "register again")
	check_eq(again.server_id, server_id, "server id")
	var page := await rooms_named(new_rooms(await new_player()), registration.server_name)
	check_eq(page.size(), 1, "rooms")


func test_two_servers_in_one_process_are_two_rooms() -> void:
	var first := await new_server("One")
	var second := await new_server("Two")
	check(first.server_id != second.server_id, "two servers have one id")


func test_auto_register_registers_by_itself() -> void:
	var registration := BackendServerRegistration.new()
	registration.server_name = unique("Auto")
	registration.port = 7777
	registration.max_players = 4
	registration.auto_register = true
	var registrations := record(registration.registered)
	add_child(registration)
	await until(func() -> bool: return registrations.size() == 1, WAIT_TIMEOUT, "registered")
	check_eq(registration.is_registered(), true, "registered")


func test_the_player_count_follows_the_heartbeat() -> void:
	timeout_seconds = 120.0
	var registration := await new_server("Count")
	var rooms := new_rooms(await new_player())
	registration.players = 5
	var seen: Array[int] = [-1]
	var deadline := Time.get_ticks_msec() + int(HEARTBEAT_TIMEOUT * 1000.0)
	while seen[0] != 5 and Time.get_ticks_msec() < deadline:
		var result: BackendRoomResult = await rooms.get_room(registration.server_id).wait()
		seen[0] = result.room.players if result.ok() else -1
		await frames(10)
	check_eq(seen[0], 5, "players")


func test_what_players_see_may_change_while_registered() -> void:
	timeout_seconds = 120.0
	var registration := await new_server("Before")
	var rooms := new_rooms(await new_player())
	var server_id := registration.server_id
	var losses := record(registration.heartbeat_failed)
	registration.server_name = unique("After")
	registration.port = 7778
	registration.public_address = "192.0.2.7"
	registration.region = "eu-west"
	registration.version = "2"
	var seen: Array[BackendRoom] = []
	var deadline := Time.get_ticks_msec() + int(HEARTBEAT_TIMEOUT * 1000.0)
	while Time.get_ticks_msec() < deadline:
		var result: BackendRoomResult = await rooms.get_room(server_id).wait()
		if result.ok() and result.room.name == registration.server_name:
			seen.append(result.room)
			break
		await frames(10)
	if check(not seen.is_empty(), "the room keeps its name"):
		check_eq(seen[0].port, 7778, "port")
		check_eq(seen[0].address, "192.0.2.7", "address")
		check_eq(seen[0].region, "eu-west", "region")
		check_eq(seen[0].version, "2", "version")
	check_eq(registration.server_id, server_id, "server id")
	check_eq(losses.size(), 0, "heartbeats that failed")


func test_what_cannot_change_while_registered_is_said() -> void:
	var registration := await new_server("Late")
	var log := WarningLog.new()
	OS.add_logger(log)
	registration.main_loop_stall_seconds = 10.0
	registration.main_loop_stall_seconds = 20.0
	registration.dtls = true
	registration.server_name = ""
	await frames(30)
	OS.remove_logger(log)
	for words: String in [
		"main_loop_stall_seconds was changed", "dtls was changed", "is not changed"
	]:
		check_eq(log.count(words), 1, 'lines with "%s"' % words)
	check_eq(registration.is_registered(), true, "registered")


func test_a_draining_server_is_hidden_and_gives_no_tickets() -> void:
	timeout_seconds = 120.0
	var registration := await new_server("Drain")
	var rooms := new_rooms(await new_player())
	registration.set_draining(true)
	await until_listed(rooms, registration.server_name, 0)
	failed_with(
		await rooms.request_ticket(registration.server_id).wait(), "room_draining", "ticket"
	)
	registration.set_draining(false)
	await until_listed(rooms, registration.server_name, 1)


func test_deregister_takes_the_server_off_the_list() -> void:
	var registration := await new_server("Gone")
	var server_id := registration.server_id
	var departures := record(registration.deregistered)
	succeeded(await registration.deregister().wait(), "deregister")
	check_eq(registration.is_registered(), false, "registered")
	check_eq(departures.size(), 1, "emissions of deregistered")
	var rooms := new_rooms(await new_player())
	failed_with(await rooms.get_room(server_id).wait(), "room_not_found", "get_room")
	succeeded(await registration.deregister().wait(), "deregister twice")


func test_a_server_can_come_back_after_deregistering() -> void:
	var registration := await new_server("Back")
	succeeded(await registration.deregister().wait(), "deregister")
	succeeded(await registration.register().wait(), "register")
	check_eq(registration.is_registered(), true, "registered")
	var page := await rooms_named(new_rooms(await new_player()), registration.server_name)
	check_eq(page.size(), 1, "rooms")


func test_bad_input_names_the_field() -> void:
	for bad: Array in [
		["server_name", "", "server_name"],
		["server_name", "x".repeat(65), "server_name"],
		["server_name", "a\tb", "server_name"],
		["port", 0, "port"],
		["port", 65_536, "port"],
		["port", -1, "port"],
		["max_players", 0, "max_players"],
		["max_players", -4, "max_players"],
		["max_players", 100_001, "max_players"],
		["players", -1, "players"],
		["map", "x".repeat(65), "map"],
		["tags", PackedStringArray(["x".repeat(65)]), "tags[0]"],
		["public_address", "two words", "public_address"],
		["public_address", "0.0.0.0", "public_address"],
		["public_address", "1.2.3.4:7777", "public_address"],
		["public_address", "[::1]", "public_address"],
	]:
		var registration := new_registration(unique("Bad"))
		registration.set(str(bad[0]), bad[1])
		var registered: BackendRegistrationResult = await registration.register().wait()
		failed_with(registered, "invalid_field", "%s = %s" % [bad[0], bad[1]], str(bad[2]))
		check_eq(registration.is_registered(), false, "registered")
		registration.free()


func test_a_wrong_server_key_is_refused() -> void:
	var key_file := OS.get_environment("BACKEND_SERVER_KEY_FILE")
	var wrong_file := ProjectSettings.globalize_path("user://wrong.key")
	var file := FileAccess.open(wrong_file, FileAccess.WRITE)
	# Well formed up to its checksum, which the backend alone can judge together with the key.
	file.store_string("gsk_test_%s000000" % "A".repeat(43))
	file.close()
	OS.set_environment("BACKEND_SERVER_KEY_FILE", wrong_file)
	var registration := new_registration(unique("Intruder"))
	var request := registration.register()
	OS.set_environment("BACKEND_SERVER_KEY_FILE", key_file)
	var registered: BackendRegistrationResult = await request.wait()
	check(registered.failed(), "a wrong key registered a server")
	if registered.failed():
		check(
			registered.error.code in ["server_key_invalid", "not_configured", "invalid_field"],
			"code: %s" % registered.error.code,
		)
		check(not registered.error.message.contains("AAAA"), "the error tells the key")
		check_eq(registered.error.retryable, false, "retryable")
	DirAccess.remove_absolute(wrong_file)


func test_an_outage_is_told_and_survived() -> void:
	timeout_seconds = 180.0
	var proxy := new_proxy()
	var registration := await new_server("Outage", config_for(proxy.url()))
	var failures_told := record(registration.heartbeat_failed)
	proxy.cut_line()
	registration.set_draining(true)
	await until(
		func() -> bool: return not failures_told.is_empty(), HEARTBEAT_TIMEOUT, "heartbeat_failed"
	)
	var error: BackendError = failures_told[0][0] if not failures_told.is_empty() else null
	check(error != null and error.retryable, "the error is not retryable")
	proxy.connect_line()
	registration.set_draining(false)
	var rooms := new_rooms(await new_player())
	await until_listed(rooms, registration.server_name, 1)


func test_registering_goes_on_until_the_backend_is_there() -> void:
	timeout_seconds = 120.0
	var proxy := new_proxy()
	proxy.cut_line()
	var registration := new_registration(unique("Early"), quick_config(proxy.url()))
	var failures_told := record(registration.registration_failed)
	var registrations := record(registration.registered)
	var registered: BackendRegistrationResult = await registration.register().wait()
	check(registered.failed(), "registered without a backend")
	await frames(60)
	check_eq(failures_told.size(), 1, "the failure is told once")
	check_eq((failures_told[0][0] as BackendError).retryable, true, "retryable")
	proxy.connect_line()
	await until(func() -> bool: return registration.is_registered(), HEARTBEAT_TIMEOUT, "listed")
	await until(func() -> bool: return registrations.size() == 1, WAIT_TIMEOUT, "registered")


func test_a_server_that_was_told_to_stop_does_not_register_later() -> void:
	var proxy := new_proxy()
	proxy.cut_line()
	var registration := new_registration(unique("Stopped"), quick_config(proxy.url()))
	await registration.register().wait()
	succeeded(await registration.deregister().wait(), "deregister")
	proxy.connect_line()
	var registrations := record(registration.registered)
	var rooms := new_rooms(await new_player())
	# Longer than the first pauses between two attempts.
	for _poll in 8:
		await get_tree().create_timer(0.5).timeout
	check_eq((await rooms_named(rooms, registration.server_name)).size(), 0, "rooms")
	check_eq(registrations, [] as Array[Array], "registered")


func test_a_failure_that_nobody_looks_at_is_an_error_in_the_log() -> void:
	expect_error("its result is not used (invalid_field)")
	var ignored := new_registration("")
	ignored.register()
	await frames(10)
	# Not so for those that look, now or later.
	var awaited: BackendRegistrationResult = await ignored.register().wait()
	failed_with(awaited, "invalid_field", "no name")
	var kept := ignored.register()
	await frames(10)
	failed_with(kept.result, "invalid_field", "no name")
	var told := record(ignored.registration_failed)
	ignored.register()
	await until(func() -> bool: return told.size() == 1, WAIT_TIMEOUT, "registration_failed")


func test_a_door_that_is_shut_or_unguarded_is_a_warning() -> void:
	var warnings := WarningLog.new()
	OS.add_logger(warnings)
	var branch := MultiplayerBranch.new()
	add_child(branch)
	var registration := BackendServerRegistration.new()
	registration.server_name = unique("Door")
	registration.max_players = 2
	registration.port = shut_port()
	branch.add_child(registration)
	succeeded(await registration.register().wait(), "register")
	# The port is looked up on a worker thread.
	var missing_port := "nothing listens on port %d" % registration.port
	await until(func() -> bool: return warnings.has(missing_port), WAIT_TIMEOUT, missing_port)
	check(not warnings.has("not authenticated"), "nobody can come in yet")
	registration.port = branch.host()
	warnings.clear()
	succeeded(await registration.register().wait(), "register")
	check(warnings.has("not authenticated"), "no warning about unauthenticated peers")
	check(not warnings.has("nothing listens"), "it listens")
	var auth := BackendPeerAuth.new()
	auth.registration = registration
	branch.add_auth(auth)
	warnings.clear()
	succeeded(await registration.register().wait(), "register")
	await frames(10)
	check(
		not warnings.has("not authenticated") and not warnings.has("nothing listens"), "all is well"
	)
	OS.remove_logger(warnings)


func test_a_scene_without_peer_auth_has_a_configuration_warning() -> void:
	var scene := Node.new()
	add_child(scene)
	var registration := new_registration("Pond")
	remove_child(registration)
	scene.add_child(registration)
	registration.owner = scene
	var words := func() -> String:
		return "\n".join(registration.call("_get_configuration_warnings"))
	check(words.call().contains("BackendPeerAuth"), words.call())
	var auth := BackendPeerAuth.new()
	scene.add_child(auth)
	auth.owner = scene
	check(not words.call().contains("BackendPeerAuth"), words.call())


## A configuration whose calls end soon.
func quick_config(url: String) -> BackendConfig:
	var config := config_for(url)
	config.timeout_seconds = 1.0
	return config


## A port that nothing listens on.
func shut_port() -> int:
	var socket := PacketPeerUDP.new()
	socket.bind(0, "127.0.0.1")
	var port := socket.get_local_port()
	socket.close()
	return port


func until_listed(rooms: BackendRooms, server_name: String, count: int) -> void:
	var listed := -1
	var deadline := Time.get_ticks_msec() + int(HEARTBEAT_TIMEOUT * 1000.0)
	while listed != count and Time.get_ticks_msec() < deadline:
		var page := await rooms_named(rooms, server_name)
		listed = page.size() if page.ok() else -1
		await frames(10)
	check_eq(listed, count, "rooms named %s" % server_name)
