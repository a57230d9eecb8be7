## Seats: a ticket keeps a place in its room until the server counts the player.
extends "res://peer_auth_test_base.gd"

## What changes is on the list with a heartbeat that is sent at once: a second after the one before.
const SOON := 10.0


func test_a_seat_is_kept_until_the_server_counts_the_player() -> void:
	await open_server()
	await seats_follow_a_player()


func test_a_seat_ends_also_when_tickets_are_verified_offline() -> void:
	await open_server()
	_validator.policy = BackendTokenValidator.LOCAL_ONLY
	await seats_follow_a_player()


func test_a_refused_ticket_gives_its_seat_back() -> void:
	await open_server()
	var ada := await new_player("Ada")
	var ticket := await new_ticket(ada)
	var client := await join_with(ticket)
	await until_seats(new_rooms(ada), 1, 0)
	# The same player again, from another place: the one connection replaces the other.
	var again := await join_with(await new_ticket(ada))
	await until_seats(new_rooms(ada), 1, 0)
	check_eq(client.is_online(), false, "the first connection is online")
	check_eq(again.is_online(), true, "the second connection is online")


func test_a_party_gets_all_its_seats_or_none() -> void:
	var server := new_registration(unique("Party"))
	server.max_players = 3
	server.visibility = BackendServerRegistration.VISIBILITY_PRIVATE
	server.password = "frog"
	succeeded(await server.register().wait(), "register")
	var leader := new_rooms(await new_player())
	var code := server.invite_code
	failed_with(await leader.join_by_code(code, "frog", 4).wait(), "room_full", "four seats")
	failed_with(await leader.join_by_code(code, "frog", 0).wait(), "invalid_field", "none", "seats")
	failed_with(await leader.join_by_code(code, "frog", -1).wait(), "invalid_field", "-1", "seats")
	failed_with(await leader.join_by_code(code, "frog", 17).wait(), "invalid_field", "17", "seats")
	var ticket: BackendJoinTicket = await leader.join_by_code(code, "frog", 3).wait()
	if not succeeded(ticket, "three seats"):
		return
	check(not ticket.party_code.is_empty(), "no code for the party")
	for index in 2:
		var member := new_rooms(await new_player())
		var claimed: BackendJoinTicket = await (
			member.join_party(ticket.room_id, ticket.party_code).wait()
		)
		if succeeded(claimed, "member %d" % index):
			check_eq(claimed.room_id, server.server_id, "room id")
			check_eq(claimed.party_code, "", "code of a member's ticket")
	var late := new_rooms(await new_player())
	failed_with(
		await late.join_party(ticket.room_id, ticket.party_code).wait(),
		"party_code_unknown",
		"late"
	)
	failed_with(await late.join_by_code(code, "frog").wait(), "room_full", "a fourth player")


## In a room of two: one player joins, one is on the way, a third does not fit.
func seats_follow_a_player() -> void:
	_registration.max_players = 2
	var ada := await new_player("Ada")
	var rooms := new_rooms(ada)
	await until_room(rooms, func(room: BackendRoom) -> bool: return room.max_players == 2)
	var ticket := await new_ticket(ada)
	await until_seats(rooms, 0, 1)
	await join_with(ticket)
	await until_seats(rooms, 1, 0)
	var on_the_way := new_rooms(await new_player("Bea"))
	succeeded(await on_the_way.request_ticket(_registration.server_id).wait(), "the last seat")
	var room := await until_seats(rooms, 1, 1)
	if room != null:
		check_eq(room.free_seats, 0, "free seats")
		check_eq(room.is_full, true, "full")
	var late := new_rooms(await new_player("Cy"))
	failed_with(
		await late.request_ticket(_registration.server_id).wait(), "room_full", "a third player"
	)


func until_seats(rooms: BackendRooms, players: int, reserved: int) -> BackendRoom:
	return await until_room(
		rooms,
		func(room: BackendRoom) -> bool:
			return room.players == players and room.reserved_seats == reserved
	)


## The room of the server, once `condition` holds for it.
func until_room(rooms: BackendRooms, condition: Callable) -> BackendRoom:
	var seen := "nothing"
	var deadline := Time.get_ticks_msec() + int(SOON * 1000.0)
	while Time.get_ticks_msec() < deadline:
		var result: BackendRoomResult = await rooms.get_room(_registration.server_id).wait()
		if result.ok():
			if condition.call(result.room):
				return result.room
			var room := result.room
			seen = "%d + %d of %d" % [room.players, room.reserved_seats, room.max_players]
		await frames(5)
	fail("not within %d s; the room shows %s" % [SOON, seen])
	return null
