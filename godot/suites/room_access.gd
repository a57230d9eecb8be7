## Who finds a room and gets into it: visibility, invite codes, passwords. Custom attributes.
extends "res://backend_suite.gd"

const WarningLog := preload("res://warning_log.gd")

## What changes is on the list with a heartbeat that is sent at once: a second after the one before.
const SOON := 10.0


func test_a_public_room_is_listed_and_has_no_code() -> void:
	var server := await new_server("Public")
	check_eq(server.invite_code, "", "invite code")
	var rooms := new_rooms(await new_player())
	var page := await rooms_named(rooms, server.server_name)
	if not check_eq(page.size(), 1, "rooms"):
		return
	var room := page.get_room(0)
	check_eq(room.visibility, BackendRoom.VISIBILITY_PUBLIC, "visibility")
	check_eq(room.has_password, false, "has password")
	check_eq(room.attributes, {}, "attributes")


func test_an_unlisted_room_is_joined_by_its_id_or_its_code() -> void:
	var server := await hidden_server(BackendServerRegistration.VISIBILITY_UNLISTED)
	check_eq(server.invite_code.length(), 7, "length of the invite code %s" % server.invite_code)
	var rooms := new_rooms(await new_player())
	check_eq((await rooms_named(rooms, server.server_name)).size(), 0, "rooms on the list")
	var read: BackendRoomResult = await rooms.get_room(server.server_id).wait()
	if succeeded(read, "get_room"):
		check_eq(read.room.visibility, BackendRoom.VISIBILITY_UNLISTED, "visibility")
	succeeded(await rooms.request_ticket(server.server_id).wait(), "ticket by the id")
	for typed: String in [server.invite_code, server.invite_code.to_lower().replace("-", " ")]:
		var ticket: BackendJoinTicket = await rooms.join_by_code(typed).wait()
		if succeeded(ticket, "ticket by the code %s" % typed):
			check_eq(ticket.room_id, server.server_id, "room id")
			check_eq(ticket.room.name, server.server_name, "name of the room")
			check_eq(ticket.ticket.split(".").size(), 3, "parts of the ticket")


func test_a_private_room_is_joined_by_its_code_only() -> void:
	var server := await hidden_server(BackendServerRegistration.VISIBILITY_PRIVATE)
	var rooms := new_rooms(await new_player())
	check_eq((await rooms_named(rooms, server.server_name)).size(), 0, "rooms on the list")
	failed_with(await rooms.get_room(server.server_id).wait(), "room_not_found", "get_room")
	failed_with(await rooms.request_ticket(server.server_id).wait(), "room_not_found", "by the id")
	succeeded(await rooms.join_by_code(server.invite_code).wait(), "ticket by the code")


func test_what_is_no_invite_code() -> void:
	var rooms := new_rooms(await new_player())
	for typed: String in ["", "K7Q", "K7Q-X30", "x".repeat(100), "../../v1"]:
		var ticket: BackendJoinTicket = await rooms.join_by_code(typed).wait()
		failed_with(ticket, "invalid_field", "join_by_code(%s)" % typed, "invite_code")
		check_eq(ticket.room, null, "room of a failed ticket")


func test_codes_cannot_be_guessed_for_long() -> void:
	var rooms := new_rooms(await new_player())
	for attempt in 10:
		var wrong: BackendJoinTicket = await (
			rooms.join_by_code("222-22%d" % (attempt % 8 + 2)).wait()
		)
		failed_with(wrong, "invite_code_unknown", "attempt %d" % attempt)
	failed_with(await rooms.join_by_code("222-222").wait(), "rate_limited", "one too many")


func test_a_code_follows_the_visibility_and_can_be_renewed() -> void:
	var server := await hidden_server(BackendServerRegistration.VISIBILITY_PRIVATE)
	var codes := record(server.invite_code_changed)
	var first := server.invite_code
	server.renew_invite_code()
	await until(func() -> bool: return codes.size() == 1, SOON, "another code")
	var second := server.invite_code
	check(second != first and second.length() == 7, "the code %s is not another one" % second)
	check_eq(codes, [[second]], "emissions of invite_code_changed")
	var rooms := new_rooms(await new_player())
	failed_with(await rooms.join_by_code(first).wait(), "invite_code_unknown", "the first code")
	succeeded(await rooms.join_by_code(second).wait(), "the second code")
	server.visibility = BackendServerRegistration.VISIBILITY_PUBLIC
	await until(func() -> bool: return codes.size() == 2, SOON, "no code any more")
	check_eq(server.invite_code, "", "code of a public room")
	failed_with(await rooms.join_by_code(second).wait(), "invite_code_unknown", "a public room")
	check_eq((await rooms_named(rooms, server.server_name)).size(), 1, "rooms on the list")
	succeeded(await server.deregister().wait(), "deregister")


func test_a_password_is_checked_by_the_backend() -> void:
	var server := new_registration(unique("Password"))
	server.password = "Frösche 7"
	succeeded(await server.register().wait(), "register")
	var rooms := new_rooms(await new_player())
	var page := await rooms_named(rooms, server.server_name)
	if check_eq(page.size(), 1, "rooms"):
		check_eq(page.get_room(0).has_password, true, "has password")
	var id := server.server_id
	failed_with(await rooms.request_ticket(id).wait(), "wrong_room_password", "no password")
	failed_with(await rooms.request_ticket(id, "frösche 7").wait(), "wrong_room_password", "wrong")
	succeeded(await rooms.request_ticket(id, "Frösche 7").wait(), "right")
	server.password = ""
	await until_room(
		rooms, id, func(room: BackendRoom) -> bool: return not room.has_password, "no password"
	)
	succeeded(await rooms.request_ticket(id).wait(), "without a password")
	server.password = "toads"
	await until_room(
		rooms, id, func(room: BackendRoom) -> bool: return room.has_password, "a password again"
	)
	succeeded(await rooms.request_ticket(id, "toads").wait(), "the new one")


func test_passwords_cannot_be_guessed_for_long() -> void:
	var server := new_registration(unique("Guessed"))
	server.password = "frog"
	succeeded(await server.register().wait(), "register")
	var rooms := new_rooms(await new_player())
	for attempt in 5:
		var wrong: BackendJoinTicket = await rooms.request_ticket(server.server_id, "toad").wait()
		failed_with(wrong, "wrong_room_password", "attempt %d" % attempt)
	failed_with(
		await rooms.request_ticket(server.server_id, "frog").wait(), "rate_limited", "too many"
	)
	var other := new_rooms(await new_player())
	succeeded(await other.request_ticket(server.server_id, "frog").wait(), "another player")


func test_attributes_keep_their_types() -> void:
	var server := new_registration(unique("Attributes"))
	var attributes := {"half": 0.5, "whole": 3.0, "round": 3, "ranked": true, "host": "Ada ♥"}
	server.attributes = attributes
	succeeded(await server.register().wait(), "register")
	var rooms := new_rooms(await new_player())
	var read: BackendRoomResult = await rooms.get_room(server.server_id).wait()
	if not succeeded(read, "get_room"):
		return
	check_eq(read.room.attributes, attributes, "attributes")
	check_eq(typeof(read.room.attributes.whole), TYPE_FLOAT, "type of 3.0")
	check_eq(typeof(read.room.attributes.round), TYPE_INT, "type of 3")
	# One is a copy: what a game does to it changes nothing.
	server.attributes["round"] = 9
	check_eq(server.attributes["round"], 3, "round")


func test_everything_players_see_changes_at_run_time() -> void:
	var server := await new_server("Changing")
	var rooms := new_rooms(await new_player())
	server.set_attribute("round", 1)
	server.set_attribute("host", &"Ada")
	server.set_attribute("spare", true)
	server.set_attribute("spare", null)
	server.map = "reed"
	server.mode = "hunt"
	server.max_players = 3
	server.tags = PackedStringArray(["late"])
	server.server_name = unique("Changed")
	# All in one frame, so all with the same heartbeat.
	var is_changed := func(room: BackendRoom) -> bool: return room.map == "reed"
	var room := await until_room(rooms, server.server_id, is_changed, "the new map")
	if room == null:
		return
	check_eq(room.attributes, {"round": 1, "host": "Ada"}, "attributes")
	check_eq(room.mode, "hunt", "mode")
	check_eq(room.max_players, 3, "max players")
	check_eq(room.tags, PackedStringArray(["late"]), "tags")
	var is_renamed := func(seen: BackendRoom) -> bool: return seen.name == server.server_name
	await until_room(rooms, server.server_id, is_renamed, "the new name")


func test_what_breaks_a_limit_changes_nothing() -> void:
	var server := await new_server("Limits")
	var log := WarningLog.new()
	OS.add_logger(log)
	server.set_attribute("round", 1)
	server.set_attribute("position", Vector2.ONE)
	server.set_attribute("a b", 1)
	server.set_attribute("nan", NAN)
	server.set_attribute("long", "x".repeat(257))
	for index in 40:
		server.set_attribute("many%d" % index, index)
	server.attributes = {5: 1}
	await frames(10)
	OS.remove_logger(log)
	var refused := ["attributes.position: must be a String", "attributes.nan", "attributes.long"]
	for words: String in refused:
		check_eq(log.count(words), 1, "warnings with %s" % words)
	check_eq(log.count("must have at most 32 entries"), 9, "warnings of too many attributes")
	check_eq(log.count("must have Strings as keys"), 1, "warnings of keys")
	check_eq(server.attributes.size(), 32, "attributes")
	var rooms := new_rooms(await new_player())
	var is_full := func(room: BackendRoom) -> bool: return room.attributes.size() == 32
	var room := await until_room(rooms, server.server_id, is_full, "32 attributes")
	if room != null:
		check_eq(room.attributes["round"], 1, "round")


## A game that changes something in each frame sends a heartbeat a second; the last one arrives.
func test_a_game_that_changes_each_frame_is_followed() -> void:
	var server := await new_server("Busy")
	var rooms := new_rooms(await new_player())
	for index in 120:
		server.set_attribute("frame", index)
		await frames(1)
	var is_last := func(room: BackendRoom) -> bool: return room.attributes.get("frame") == 119
	await until_room(rooms, server.server_id, is_last, "the last value")


func hidden_server(visibility: int) -> BackendServerRegistration:
	var server := new_registration(unique("Hidden"))
	server.visibility = visibility
	succeeded(await server.register().wait(), "register")
	return server


## The room, once `condition` holds for it.
func until_room(
	rooms: BackendRooms, room_id: String, condition: Callable, what: String
) -> BackendRoom:
	var deadline := Time.get_ticks_msec() + int(SOON * 1000.0)
	while Time.get_ticks_msec() < deadline:
		var result: BackendRoomResult = await rooms.get_room(room_id).wait()
		if result.ok() and condition.call(result.room):
			return result.room
		await frames(5)
	fail("not within %d s: %s" % [SOON, what])
	return null
