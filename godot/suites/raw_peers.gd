## Attacks on the door of a game server by raw ENet connections: peer ids that the engine takes for
## several peers, and silent connections that fill the server.
extends "res://peer_auth_test_base.gd"

const RawPeer := preload("res://raw_peer.gd")
const PLAYERS := 8
## How the engine marks a packet of the handshake: a system command, the one for authentication.
const AUTH: PackedByteArray = [7, 0]


## Begins a silent connection in every frame, and lets none of the last 200 go by itself.
class Siege:
	extends Node

	var join: Callable
	var begun := 0
	var _peers: Array[Node] = []

	func _process(_delta: float) -> void:
		_peers.append(join.call(begun))
		begun += 1
		if _peers.size() > 200:
			_peers.pop_front().free()


func test_a_peer_that_chooses_its_id_throws_nobody_out() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 60.0
	var ada := await join_as(await new_player("Ada"))
	var bo := await join_as(await new_player("Bo"))
	var ada_id := ada.api.get_unique_id()
	# -5 means "everybody but 5" to the engine, and only if there is a 5.
	var five := new_raw(5)
	await until(five.is_online, WAIT_TIMEOUT, "peer 5")
	await until(func() -> bool: return is_pending(5), WAIT_TIMEOUT, "peer 5 on the server")
	var left := record(_server.peer_auth.peer_left)
	var refusals := record(_server.peer_auth.peer_refused)
	var packets: Array[Array] = []
	for player: MultiplayerBranch in [ada, bo]:
		player.peer_auth.refused.connect(
			func(error: BackendError) -> void: packets.append([error.code])
		)
	for chosen: int in [-ada_id, -5, -1, -(2 ** 31), 0, 1, ada_id, 5]:
		# It has a good ticket, so that nothing but its id is wrong.
		var ticket := await new_ticket(await new_player("Mallory"))
		var rogue := new_raw(chosen)
		await until(
			func() -> bool: return rogue.is_online() or rogue.is_over(), WAIT_TIMEOUT, "connection"
		)
		if rogue.is_online():
			rogue.send(AUTH + "BKA1\u0001".to_utf8_buffer() + ticket.to_utf8_buffer())
			rogue.send(AUTH)
		if chosen < 0:
			await until(rogue.is_over, 3.0, "end of the connection of %d" % chosen)
		else:
			# The engine drops these itself, and does not tell them.
			await frames(30)
		check_eq(rogue.received, [] as Array[PackedByteArray], "what %d was sent" % chosen)
		check(chosen == 5 or not is_pending(chosen), "%d is still pending" % chosen)
		check_eq(_server.api.get_peers().size(), 2, "peers with %d" % chosen)
		if chosen < 2:
			_server.peer_auth.kick(chosen)
			await frames(10)
		rogue.free()
	# The largest id is an id like any other: refused for its silence, with a word to it alone.
	var largest := new_raw(2 ** 31 - 1)
	await until(func() -> bool: return is_pending(2 ** 31 - 1), WAIT_TIMEOUT, "the largest id")
	largest.send(AUTH + "nonsense".to_utf8_buffer())
	await until(func() -> bool: return refusals.size() > 0, WAIT_TIMEOUT, "refusal")
	await until(largest.is_over, WAIT_TIMEOUT, "end of the largest id")
	check_eq(refusals.map(func(refusal: Array) -> int: return refusal[0]), [2 ** 31 - 1], "refused")
	check_eq(five.received, [] as Array[PackedByteArray], "what 5 was sent")
	check_eq(left, [] as Array[Array], "players who left")
	check_eq(packets, [] as Array[Array], "refusals of players")
	for player: MultiplayerBranch in [ada, bo]:
		check(player.is_online(), "a player was thrown out")
		player.game.say.rpc_id(1, "still here")
	await until(func() -> bool: return _server.game.heard.size() == 2, WAIT_TIMEOUT, "calls")
	check_eq(_server.peer_auth.get_player_ids().size(), 2, "verified players")


func test_silent_connections_of_one_address_keep_nobody_out() -> void:
	await besiege(func(_number: int) -> String: return "127.0.0.1")


func test_silent_connections_of_many_addresses_keep_nobody_out() -> void:
	await besiege(func(number: int) -> String: return "127.0.1.%d" % (number % 50 + 1))


func test_the_oldest_silent_connections_of_an_address_go_first() -> void:
	await open_server()
	var silent: Array[RawPeer] = []
	for number in 6:
		silent.append(new_raw(100 + number))
		await until(
			func() -> bool: return is_pending(100 + number), WAIT_TIMEOUT, "peer %d" % number
		)
	await until(func() -> bool: return pending() == 4, WAIT_TIMEOUT, "the limit")
	for number in 6:
		check_eq(is_pending(100 + number), number >= 2, "peer %d is there" % number)
	# From elsewhere there is room.
	new_raw(200, "127.0.0.2")
	await until(func() -> bool: return is_pending(200), WAIT_TIMEOUT, "a peer from elsewhere")
	await frames(30)
	check_eq(pending(), 5, "silent peers")


func test_a_silent_connection_that_never_confirms_leaves_its_place() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 1.0
	var rogue := new_raw(77)
	await until(func() -> bool: return is_pending(77), WAIT_TIMEOUT, "peer")
	# Its end neither hears nor answers from now on, as if its cable was pulled.
	rogue.set_process(false)
	await until(func() -> bool: return pending() == 0, WAIT_TIMEOUT, "the engine's end of the peer")
	var places := func() -> int:
		return (_server.api.multiplayer_peer as ENetMultiplayerPeer).host.get_peers().size()
	await until(func() -> bool: return places.call() == 0, 4.0, "ENet's end of the peer")


## Connections that say nothing come without end, while a whole server of players joins.
func besiege(address: Callable) -> void:
	await open_server()
	_registration.max_players = PLAYERS
	# As the README opens its server.
	_server.hang_up()
	_port = _server.host(PLAYERS + _server.peer_auth.max_pending + 32)
	var tickets: Array[String] = []
	for number in PLAYERS:
		tickets.append(await new_ticket(await new_player("Player %d" % number)))
	var siege := Siege.new()
	siege.join = func(number: int) -> RawPeer: return new_raw(1000 + number, address.call(number))
	add_child(siege)
	# As many as there are places, if all of them could stay.
	await until(
		func() -> bool: return siege.begun > PLAYERS + _server.peer_auth.max_pending + 32,
		WAIT_TIMEOUT,
		"silent connections"
	)
	var verified := record(_server.peer_auth.peer_verified)
	var clients: Array[MultiplayerBranch] = []
	for ticket in tickets:
		var client := new_client(ticket)
		clients.append(client)
		client.join(_port)
		await frames(5)
	await until(func() -> bool: return verified.size() == PLAYERS, WAIT_TIMEOUT, "all players in")
	siege.free()
	await until(
		func() -> bool: return pending() <= _server.peer_auth.max_pending,
		WAIT_TIMEOUT,
		"the limit of silent peers"
	)
	for client in clients:
		check(client.is_online(), "a player is out again")
	check_eq(_server.peer_auth.get_player_ids().size(), PLAYERS, "players")


func new_raw(peer_id: int, from: String = "127.0.0.1") -> RawPeer:
	var raw := RawPeer.new()
	add_child(raw)
	raw.join(_port, peer_id, from)
	return raw


func is_pending(peer_id: int) -> bool:
	return _server.api.get_authenticating_peers().has(peer_id)


func pending() -> int:
	return _server.api.get_authenticating_peers().size()
