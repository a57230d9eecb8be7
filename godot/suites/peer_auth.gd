## The handshake on both ends: a server and its clients are branches of this process, over real
## ENet.
extends "res://peer_auth_test_base.gd"


func test_a_good_ticket_is_verified_on_both_ends() -> void:
	await open_server()
	var session := await new_player("Ada")
	var verified := record(_server.peer_auth.peer_verified)
	var client := new_client(await new_ticket(session))
	var welcomes := record(client.peer_auth.authenticated)
	client.join(_port)
	await until(func() -> bool: return not verified.is_empty(), WAIT_TIMEOUT, "peer_verified")
	await until(func() -> bool: return not welcomes.is_empty(), WAIT_TIMEOUT, "authenticated")
	await until(
		func() -> bool: return not _server.api.get_peers().is_empty(),
		WAIT_TIMEOUT,
		"peer on the server"
	)
	if verified.is_empty():
		return
	var peer_id: int = verified[0][0]
	var player: BackendPlayer = verified[0][1]
	check_eq(peer_id, client.api.get_unique_id(), "peer id")
	check_eq(player.player_id, session.player_id, "player")
	check_eq(player.display_name, "Ada", "display name")
	check_eq(
		_server.peer_auth.get_player(peer_id).player_id, session.player_id, "player of the peer"
	)
	check_eq(_server.peer_auth.get_peer_id(session.player_id), peer_id, "peer of the player")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray([session.player_id]), "players")
	check_eq(_server.peer_auth.get_player(peer_id + 1), null, "player of nobody")
	check_eq(_server.peer_auth.get_peer_id("nobody"), 0, "peer of nobody")
	client.game.say.rpc_id(1, "hello")
	await until(
		func() -> bool: return _server.game.heard == [[peer_id, "hello"]], WAIT_TIMEOUT, "RPC"
	)
	check_eq(verified.size(), 1, "emissions of peer_verified")


func test_a_peer_that_leaves_is_told_and_forgotten() -> void:
	await open_server()
	var session := await new_player("Ada")
	var client := await join_as(session)
	var left := record(_server.peer_auth.peer_left)
	var peer_id := client.api.get_unique_id()
	client.hang_up()
	await until(func() -> bool: return not left.is_empty(), WAIT_TIMEOUT, "peer_left")
	if left.is_empty():
		return
	check_eq(left[0][0], peer_id, "peer id")
	check_eq((left[0][1] as BackendPlayer).player_id, session.player_id, "player")
	check_eq(_server.peer_auth.get_player(peer_id), null, "player of the peer")
	check_eq(_server.peer_auth.get_peer_id(session.player_id), 0, "peer of the player")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")


func test_several_players_are_told_apart() -> void:
	await open_server()
	var ada := await new_player("Ada")
	var bo := await new_player("Bo")
	var first := await join_as(ada)
	var second := await join_as(bo)
	check_eq(_server.peer_auth.get_peer_id(ada.player_id), first.api.get_unique_id(), "Ada's peer")
	check_eq(_server.peer_auth.get_peer_id(bo.player_id), second.api.get_unique_id(), "Bo's peer")
	check_eq(_server.peer_auth.get_player_ids().size(), 2, "players")


func test_a_used_ticket_is_refused() -> void:
	await open_server()
	var ticket := await new_ticket(await new_player("Ada"))
	await join_with(ticket)
	await expect_refusal(new_client(ticket), "ticket_used")


func test_a_ticket_for_another_server_is_refused() -> void:
	await open_server()
	var elsewhere := await new_server("Elsewhere")
	var ticket := await ticket_for(await new_player("Ada"), elsewhere.server_id)
	await expect_refusal(new_client(ticket), "token_invalid")


func test_a_forged_ticket_is_refused() -> void:
	await open_server()
	var ticket := await new_ticket(await new_player("Ada"))
	var parts := ticket.split(".")
	await expect_refusal(
		new_client(".".join([parts[0], parts[1], "A".repeat(86)])), "token_invalid"
	)


func test_a_ticket_that_is_none_is_refused() -> void:
	await open_server()
	await expect_refusal(new_client("let.me.in"), "token_invalid")
	await expect_refusal(new_client("let me in"), "handshake_invalid")
	await expect_refusal(new_client("x".repeat(20_000)), "handshake_invalid")


func test_a_client_with_nothing_to_show_is_told() -> void:
	await open_server()
	var client := new_client("")
	var told := record(client.peer_auth.refused)
	client.join(_port)
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "refused")
	if not told.is_empty():
		check_eq((told[0][0] as BackendError).code, "ticket_missing", "reason")
	await until(
		func() -> bool: return _server.api.get_authenticating_peers().is_empty(),
		WAIT_TIMEOUT,
		"end of the handshake"
	)


func test_an_access_token_gets_in_where_both_ends_want_it() -> void:
	await open_server()
	_server.peer_auth.accept_access_tokens = true
	var session := await new_player("Ada")
	var client := new_client("")
	client.peer_auth.session = session
	client.peer_auth.send_access_token = true
	var verified := record(_server.peer_auth.peer_verified)
	client.join(_port)
	await until(func() -> bool: return not verified.is_empty(), WAIT_TIMEOUT, "peer_verified")
	if not verified.is_empty():
		var player: BackendPlayer = verified[0][1]
		check_eq(player.player_id, session.player_id, "player")
		check_eq(player.token_kind, BackendPlayer.KIND_ACCESS_TOKEN, "kind")


func test_an_access_token_is_refused_where_the_server_wants_a_ticket() -> void:
	await open_server()
	var client := new_client("")
	client.peer_auth.session = await new_player("Ada")
	client.peer_auth.send_access_token = true
	await expect_refusal(client, "token_invalid")


func test_an_access_token_is_not_shown_unasked() -> void:
	await open_server()
	_server.peer_auth.accept_access_tokens = true
	var client := new_client("")
	client.peer_auth.session = await new_player("Ada")
	var verified := record(_server.peer_auth.peer_verified)
	var told := record(client.peer_auth.refused)
	client.join(_port)
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "refused")
	if not told.is_empty():
		check_eq((told[0][0] as BackendError).code, "ticket_missing", "reason")
	await until(
		func() -> bool: return _server.api.get_authenticating_peers().is_empty(),
		WAIT_TIMEOUT,
		"end of the handshake"
	)
	check_eq(verified.size(), 0, "players let in")


func test_a_silent_peer_is_refused() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 0.5
	var rogue := new_rogue(func(_id: int, _data: PackedByteArray) -> void: pass)
	await expect_rogue_out(rogue)


func test_a_peer_that_sends_garbage_is_refused() -> void:
	await open_server()
	for garbage: PackedByteArray in [
		PackedByteArray([0]),
		PackedByteArray([255, 254, 0, 1]),
		"{}".to_utf8_buffer(),
		"[".repeat(4000).to_utf8_buffer(),
		'{"ticket": 7}'.to_utf8_buffer(),
		var_to_bytes({"ticket": "x"}),
		"x".repeat(20_000).to_utf8_buffer(),
	]:
		var rogue := new_rogue(func(_id: int, _data: PackedByteArray) -> void: pass)
		rogue.api.peer_authenticating.connect(
			func(peer_id: int) -> void:
				var sent := rogue.api.send_auth(peer_id, garbage)
				check_eq(sent, OK, "send_auth")
		)
		await expect_rogue_out(rogue)
		rogue.free()


func test_a_peer_that_calls_itself_verified_is_refused() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 0.5
	var rogue := new_rogue(func(_id: int, _data: PackedByteArray) -> void: pass)
	rogue.api.peer_authenticating.connect(
		func(peer_id: int) -> void:
			var completed := rogue.api.complete_auth(peer_id)
			check_eq(completed, OK, "complete_auth")
	)
	await expect_rogue_out(rogue)


func test_a_verified_peer_that_never_enters_takes_no_place() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 0.5
	_server.peer_auth.max_players = 1
	var ticket := await new_ticket(await new_player("Ada"))
	var late_ticket := await new_ticket(await new_player("Bo"))
	# It shows a good ticket and then never says that it is done with authenticating.
	var rogue := new_rogue(func(_id: int, _data: PackedByteArray) -> void: pass)
	rogue.api.peer_authenticating.connect(
		func(peer_id: int) -> void:
			var credential := "BKA1\u0001".to_ascii_buffer() + ticket.to_ascii_buffer()
			var sent := rogue.api.send_auth(peer_id, credential)
			check_eq(sent, OK, "send_auth")
	)
	rogue.join(_port)
	await until(rogue.is_online, WAIT_TIMEOUT, "connection")
	await until(func() -> bool: return not rogue.is_online(), WAIT_TIMEOUT, "end of the connection")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")
	await join_with(late_ticket)


func test_an_rpc_of_an_unverified_peer_never_arrives() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 1.0
	# The engine says so itself whenever a peer that is not verified sends anything but credentials.
	tolerate_errors("packet[1] != SYS_COMMAND_AUTH")
	# And the rogue's own engine, which does not expect to be told why it is refused.
	tolerate_errors('Condition "len != 2" is true')
	var rogue := new_rogue(Callable())
	var refusals := record(_server.peer_auth.peer_refused)
	rogue.join(_port)
	await until(rogue.is_online, WAIT_TIMEOUT, "connection")
	# Without an auth callback of its own, the rogue's engine believes that it is in, and sends.
	var spoken := 0
	while refusals.is_empty() and rogue.is_online() and spoken < 5:
		if rogue.api.get_peers().has(1):
			rogue.game.say.rpc_id(1, "let me in")
			spoken += 1
		await frames(1)
	check(spoken > 0, "the rogue never got to speak")
	await until(func() -> bool: return not refusals.is_empty(), WAIT_TIMEOUT, "peer_refused")
	check_eq(_server.game.heard, [], "RPCs heard")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")


func test_a_full_server_refuses() -> void:
	await open_server()
	_server.peer_auth.max_players = 1
	var second := await new_ticket(await new_player("Bo"))
	await join_as(await new_player("Ada"))
	await expect_refusal(new_client(second), "room_full")
	check_eq(_server.peer_auth.get_player_ids().size(), 1, "players")


func test_a_draining_server_refuses() -> void:
	await open_server()
	var ticket := await new_ticket(await new_player("Ada"))
	_server.peer_auth.accepting = false
	await expect_refusal(new_client(ticket), "server_draining")


func test_the_newer_connection_of_a_player_replaces_the_older() -> void:
	await open_server()
	var session := await new_player("Ada")
	var first_ticket := await new_ticket(session)
	var second_ticket := await new_ticket(session)
	var older := await join_with(first_ticket)
	var older_id := older.api.get_unique_id()
	var left := record(_server.peer_auth.peer_left)
	var newer := await join_with(second_ticket)
	await until(func() -> bool: return not left.is_empty(), WAIT_TIMEOUT, "peer_left of the older")
	await until(
		func() -> bool: return not older.is_online(), WAIT_TIMEOUT, "end of the older connection"
	)
	check_eq(left.size(), 1, "emissions of peer_left")
	check_eq(left[0][0] if not left.is_empty() else 0, older_id, "peer that left")
	check_eq(
		_server.peer_auth.get_peer_id(session.player_id),
		newer.api.get_unique_id(),
		"peer of the player"
	)
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray([session.player_id]), "players")
	check_eq(newer.is_online(), true, "the newer is online")


func test_a_client_that_was_refused_may_try_again() -> void:
	await open_server()
	var session := await new_player("Ada")
	var client := new_client("")
	var welcomes := record(client.peer_auth.authenticated)
	for _attempt in 4:
		client.peer_auth.ticket = "let.me.in"
		await expect_refusal(client, "token_invalid")
	client.peer_auth.ticket = await new_ticket(session)
	client.join(_port)
	await until(func() -> bool: return not welcomes.is_empty(), WAIT_TIMEOUT, "authenticated")
	await until(
		func() -> bool: return _server.peer_auth.get_player_ids().size() == 1,
		WAIT_TIMEOUT,
		"player"
	)


func test_a_kicked_player_is_out() -> void:
	await open_server()
	var session := await new_player("Ada")
	var client := await join_as(session)
	var left := record(_server.peer_auth.peer_left)
	_server.peer_auth.kick(client.api.get_unique_id(), "suite says so")
	await until(func() -> bool: return not left.is_empty(), WAIT_TIMEOUT, "peer_left")
	await until(
		func() -> bool: return not client.is_online(), WAIT_TIMEOUT, "end of the connection"
	)
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")
	_server.peer_auth.kick(987_654, "nobody")


func test_the_registration_counts_the_players() -> void:
	await open_server()
	var client := await join_as(await new_player("Ada"))
	check_eq(_registration.players, 1, "players with one in")
	client.hang_up()
	await until(
		func() -> bool: return _registration.players == 0, WAIT_TIMEOUT, "players with nobody in"
	)


func test_a_client_that_hangs_up_in_mid_handshake_leaves_nothing_behind() -> void:
	await open_server()
	var verified := record(_server.peer_auth.peer_verified)
	var client := new_client(await new_ticket(await new_player("Ada")))
	client.join(_port)
	await until(
		func() -> bool: return not _server.api.get_authenticating_peers().is_empty(),
		WAIT_TIMEOUT,
		"handshake"
	)
	client.hang_up()
	await until(
		func() -> bool: return _server.api.get_authenticating_peers().is_empty(),
		WAIT_TIMEOUT,
		"end of handshake"
	)
	await frames(30)
	check_eq(verified.size(), 0, "emissions of peer_verified")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")
