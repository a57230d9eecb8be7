## Base of the suites about who gets onto a game server: a server and its clients are branches of
## this process, over real ENet.
extends "res://backend_suite.gd"

const MultiplayerBranch := preload("res://multiplayer_branch.gd")

var _server: MultiplayerBranch
var _registration: BackendServerRegistration
var _validator: BackendTokenValidator
var _port := 0


## A registered server that listens, with everything it needs to judge who joins.
func open_server() -> void:
	_server = MultiplayerBranch.new()
	_server.name = "Server"
	add_child(_server)
	_port = _server.host()
	_registration = new_registration(unique("Door"))
	_registration.port = _port
	# Tickets that nobody uses keep their seats.
	_registration.max_players = 32
	succeeded(await _registration.register().wait(), "register")
	_validator = BackendTokenValidator.new()
	_validator.registration = _registration
	add_child(_validator)
	var auth := BackendPeerAuth.new()
	auth.registration = _registration
	auth.validator = _validator
	_server.add_auth(auth)


func new_ticket(session: BackendSession) -> String:
	return await ticket_for(session, _registration.server_id)


func new_client(ticket: String) -> MultiplayerBranch:
	var client := MultiplayerBranch.new()
	client.name = unique("Client").validate_node_name()
	add_child(client)
	var auth := BackendPeerAuth.new()
	auth.ticket = ticket
	client.add_auth(auth)
	return client


## Has the server send a heartbeat soon, whose reply tells what it has not heard yet.
func beat() -> void:
	_registration.map = unique("map")


## A client that speaks ENet but not our handshake.
func new_rogue(auth_callback: Callable) -> MultiplayerBranch:
	var rogue := MultiplayerBranch.new()
	rogue.name = unique("Rogue").validate_node_name()
	add_child(rogue)
	rogue.api.auth_callback = auth_callback
	return rogue


func join_as(session: BackendSession) -> MultiplayerBranch:
	return await join_with(await new_ticket(session))


func join_with(ticket: String) -> MultiplayerBranch:
	var client := new_client(ticket)
	var verified := record(_server.peer_auth.peer_verified)
	var welcomes := record(client.peer_auth.authenticated)
	client.join(_port)
	await until(
		func() -> bool: return not (verified.is_empty() or welcomes.is_empty()),
		WAIT_TIMEOUT,
		"verification of a client"
	)
	return client


func expect_refusal(client: MultiplayerBranch, code: String) -> void:
	var refusals := record(_server.peer_auth.peer_refused)
	var told := record(client.peer_auth.refused)
	var welcomes := record(client.peer_auth.authenticated)
	client.join(_port)
	await until(func() -> bool: return not refusals.is_empty(), WAIT_TIMEOUT, "peer_refused")
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "refused")
	await until(
		func() -> bool: return not client.is_online(), WAIT_TIMEOUT, "end of the connection"
	)
	if not refusals.is_empty():
		check_eq((refusals[0][1] as BackendError).code, code, "reason on the server")
	if not told.is_empty():
		check_eq((told[0][0] as BackendError).code, code, "reason on the client")
	check_eq(welcomes.size(), 0, "emissions of authenticated")
	check_eq(refusals.size(), 1, "emissions of peer_refused")


func expect_rogue_out(rogue: MultiplayerBranch) -> void:
	var refusals := record(_server.peer_auth.peer_refused)
	var verified := record(_server.peer_auth.peer_verified)
	rogue.join(_port)
	await until(func() -> bool: return not refusals.is_empty(), WAIT_TIMEOUT, "peer_refused")
	await until(func() -> bool: return not rogue.is_online(), WAIT_TIMEOUT, "end of the connection")
	if not refusals.is_empty():
		var error: BackendError = refusals[0][1]
		check(
			not error.code.is_empty() and not error.message.is_empty(), "the refusal has no reason"
		)
	check_eq(verified.size(), 0, "emissions of peer_verified")
	check_eq(_server.api.get_peers(), PackedInt32Array(), "peers of the server")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")
