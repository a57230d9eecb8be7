## Rooms that players host through the relay: players in one process, each with a multiplayer of
## their own.
extends "res://backend_suite.gd"

const MultiplayerBranch := preload("res://multiplayer_branch.gd")

const SOON := 10.0


func new_host_node(player: BackendSession) -> BackendRelay:
	var node := BackendRelay.new()
	node.session = player
	add_child(node)
	return node


## A player in a room, by the branch of the scene tree that plays it.
func enter(request: BackendRequest) -> MultiplayerBranch:
	var joined: BackendRelayResult = await request.wait()
	if not succeeded(joined, "the room"):
		return null
	var branch := MultiplayerBranch.new()
	add_child(branch)
	branch.api.multiplayer_peer = joined.peer
	return branch


func ticket_of(player: BackendSession, room_id: String) -> BackendJoinTicket:
	return await new_rooms(player).request_ticket(room_id).wait()


func peer_of(branch: MultiplayerBranch) -> BackendRelayPeer:
	return branch.api.multiplayer_peer


func test_players_call_each_other_and_know_who_calls() -> void:
	var ada := await new_player("Ada")
	var bob := await new_player("Bob")
	var options := BackendRoomOptions.new()
	options.room_name = unique("Pond")
	options.max_players = 2
	var hosted: BackendRelayResult = await new_host_node(ada).host_room(options).wait()
	if not succeeded(hosted, "the room"):
		return
	check(hosted.ticket.is_relay, "the ticket is one of the relay")
	check_eq(hosted.ticket.room.name, options.room_name, "name")
	var host := MultiplayerBranch.new()
	add_child(host)
	host.api.multiplayer_peer = hosted.peer
	check(host.api.is_server(), "the host is the server")
	var ticket := await ticket_of(bob, hosted.ticket.room_id)
	var guest := await enter(new_host_node(bob).join(ticket))
	if guest == null:
		return
	var connected := func() -> bool: return host.api.get_peers().size() == 1
	await until(connected, SOON, "the guest to be there")
	var number := guest.api.get_unique_id()
	check_eq(peer_of(host).get_player_id(number), bob.player_id, "player id")
	check_eq(peer_of(host).get_display_name(number), "Bob", "name")
	check_eq(peer_of(host).get_player_id(-7), "", "nobody's id")
	await until(func() -> bool: return 1 in guest.api.get_peers(), SOON, "the host to be there")
	guest.game.say.rpc_id(1, "hop")
	await until(func() -> bool: return host.game.heard.size() == 1, SOON, "the call")
	check_eq(host.game.heard, [[number, "hop"]] as Array[Array], "heard")

	# The used ticket, and a room without seats.
	failed_with(await new_host_node(bob).join(ticket).wait(), "relay_refused", "the used ticket")
	var late := await new_player("Late")
	failed_with(await ticket_of(late, hosted.ticket.room_id), "room_full", "a third player")

	var ended := record(guest.api.server_disconnected)
	var peer := peer_of(guest)
	hosted.peer.close()
	await until(func() -> bool: return ended.size() == 1, SOON, "the end")
	check_eq(peer.close_reason, "host_left", "reason")
	check_eq(hosted.peer.close_reason, "left", "the host's own reason")


func test_calls_that_cannot_succeed_say_why() -> void:
	var node := BackendRelay.new()
	add_child(node)
	failed_with(await node.host_room(null).wait(), "not_configured", "no session")
	failed_with(await node.join(null).wait(), "invalid_field", "no ticket", "ticket")
	var player := await new_player()
	var failed := await ticket_of(player, "nowhere")
	failed_with(await node.join(failed).wait(), "invalid_field", "a failed ticket", "ticket")
	var server := await new_server("Dedicated")
	var other := await ticket_of(player, server.server_id)
	failed_with(await node.join(other).wait(), "invalid_field", "a game server's", "ticket")
	var options := BackendRoomOptions.new()
	options.max_players = 1000
	var too_many: BackendRelayResult = await new_host_node(player).host_room(options).wait()
	failed_with(too_many, "invalid_field", "too many places", "room.max_players")
	check_eq(too_many.peer, null, "peer")
	check_eq(too_many.ticket, null, "ticket")


func test_a_player_who_is_freed_with_their_peer_leaves_the_room() -> void:
	var ada := await new_player("Ada")
	var hosted: BackendRelayResult = await new_host_node(ada).host_room(null).wait()
	if not succeeded(hosted, "the room"):
		return
	var room_id := hosted.ticket.room_id
	hosted = null
	var rooms := new_rooms(ada)
	var tries := 0
	var room: BackendRoomResult = await rooms.get_room(room_id).wait()
	while room.ok() and tries < 100:
		tries += 1
		await get_tree().create_timer(0.1).timeout
		room = await rooms.get_room(room_id).wait()
	failed_with(room, "room_not_found", "the room")
