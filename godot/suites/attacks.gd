## Attacks on the door of a game server, from peers that speak the handshake: forged and replayed
## tickets, floods of names and of half-open peers, packets too large and too slow.
##
## What a token may say is tried over HTTP and in Rust with tokens that are well signed; here the
## questions are whether the node asks, and whether the server stays open for those who belong.
extends "res://peer_auth_test_base.gd"

const CREDENTIAL := "BKA1\u0001"
const JWKS_PATH := "/.well-known/jwks.json"


func test_no_forgery_of_a_ticket_opens_the_door() -> void:
	await open_server()
	var ticket := await new_player_ticket()
	var parts := ticket.split(".")
	var claims := decode(parts[1])
	var forgeries: Array[String] = []
	for alg: Variant in [
		"none", "None", "NONE", "nOnE", "HS256", "RS256", "ES256", "", null, ["none"]
	]:
		var header := encode(changed(decode(parts[0]), "alg", alg))
		forgeries.append(".".join([header, parts[1], "A"]))
		forgeries.append(".".join([header, parts[1], parts[2]]))
	var key := {"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)}
	for member: Array in [
		["jwk", key],
		["jku", "http://127.0.0.1:1/jwks.json"],
		["x5u", "http://127.0.0.1:1/key.pem"],
		["x5c", ["MIIB"]],
		["crit", ["exp"]],
		["b64", false],
		["typ", "access+jwt"],
		["typ", "JWT"],
		["kid", "../../../../dev/null"],
		["kid", "' OR '1'='1"],
	]:
		var header := changed(decode(parts[0]), member[0], member[1])
		forgeries.append(".".join([encode(header), parts[1], parts[2]]))
	for member: Array in [
		["sub", "00000000-0000-7000-8000-000000000000"],
		["exp", int(claims["exp"]) + 3600],
		["aud", "another-server"],
		["iss", "somebody else"],
		["jti", "another"],
		["sub", ["ada"]],
	]:
		var other := changed(claims, member[0], member[1])
		forgeries.append(".".join([parts[0], encode(other), parts[2]]))
	var refusals := record(_server.peer_auth.peer_refused)
	for forged in forgeries:
		var rogue := new_rogue_with(CREDENTIAL + forged)
		var before := refusals.size()
		rogue.join(_port)
		await until(func() -> bool: return refusals.size() > before, WAIT_TIMEOUT, "refusal")
		await until(func() -> bool: return not rogue.is_online(), WAIT_TIMEOUT, "end")
		rogue.free()
	check_eq(refusals.size(), forgeries.size(), "refusals")
	for refusal in refusals:
		check_eq((refusal[1] as BackendError).code, "token_invalid", "reason")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")
	# None of them has used the ticket up.
	await let_in(ticket)


func test_one_ticket_shown_by_many_at_once_lets_one_in() -> void:
	await open_server()
	var ticket := await new_player_ticket()
	var verified := record(_server.peer_auth.peer_verified)
	var refusals := record(_server.peer_auth.peer_refused)
	for _thief in 8:
		new_client(ticket).join(_port)
	await until(
		func() -> bool: return verified.size() + refusals.size() >= 8, WAIT_TIMEOUT, "verdicts"
	)
	check_eq(verified.size(), 1, "players let in")
	for refusal in refusals:
		check_eq((refusal[1] as BackendError).code, "ticket_used", "reason")


func test_a_flood_of_unknown_keys_is_not_passed_on_to_the_backend() -> void:
	var backend: HostileBackend = HostileBackend.new()
	add_child(backend)
	backend.answer_text(200, '{"keys":[%s]}' % JSON.stringify(some_key()))
	var validator := BackendTokenValidator.new()
	validator.config = config_for(backend.url())
	validator.set(&"policy", BackendTokenValidator.LOCAL_ONLY)
	add_child(validator)
	var claims := encode({"iss": "backend_client", "sub": "ada"})
	var requests: Array[BackendRequest] = []
	for number in 500:
		var header := {"alg": "EdDSA", "typ": "access+jwt", "kid": "unknown-%d" % number}
		requests.append(validator.validate(".".join([encode(header), claims, "A".repeat(86)])))
	for request in requests:
		failed_with(await request.wait(), "token_invalid", "forged")
	var fetches := Array(backend.requests).filter(
		func(line: String) -> bool: return line.contains(JWKS_PATH)
	)
	check(fetches.size() in range(1, 4), "%d fetches for 500 unknown keys" % fetches.size())


func test_half_open_peers_do_not_keep_a_player_out() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 3.0
	# What the limits do is tried in the suite of raw peers.
	_server.peer_auth.max_pending_per_address = 0
	var ticket := await new_player_ticket()
	var silent: Array[MultiplayerBranch] = []
	for _peer in 24:
		var rogue := new_rogue_with("")
		rogue.join(_port)
		silent.append(rogue)
	await until(
		func() -> bool: return _server.api.get_authenticating_peers().size() >= 24,
		WAIT_TIMEOUT,
		"half-open peers"
	)
	await let_in(ticket)
	await until(
		func() -> bool: return _server.api.get_authenticating_peers().is_empty(),
		WAIT_TIMEOUT,
		"end of the half-open peers"
	)
	for rogue in silent:
		check(not rogue.is_online(), "a silent peer is still there")
	check_eq(_server.peer_auth.get_player_ids().size(), 1, "players")


func test_a_handshake_that_is_too_large_is_refused_unread() -> void:
	await open_server()
	var refusals := record(_server.peer_auth.peer_refused)
	for bytes: int in [8 * 1024 + 1, 64 * 1024, 1024 * 1024]:
		var rogue := new_rogue_with(CREDENTIAL + "x".repeat(bytes))
		var before := refusals.size()
		rogue.join(_port)
		await until(
			func() -> bool: return refusals.size() > before, WAIT_TIMEOUT, "%d bytes" % bytes
		)
		await until(func() -> bool: return not rogue.is_online(), WAIT_TIMEOUT, "end")
		rogue.free()
	for refusal in refusals:
		check_eq((refusal[1] as BackendError).code, "handshake_invalid", "reason")
	await let_in(await new_player_ticket())


func test_a_second_credential_spoils_the_first() -> void:
	await open_server()
	var rogue := new_rogue_with(CREDENTIAL + "let.me.in")
	var ticket := await new_player_ticket()
	rogue.api.peer_authenticating.connect(
		func(peer_id: int) -> void:
			var sent := rogue.api.send_auth(peer_id, (CREDENTIAL + ticket).to_utf8_buffer())
			check_eq(sent, OK, "send_auth")
	)
	var verified := record(_server.peer_auth.peer_verified)
	rogue.join(_port)
	await until(rogue.is_online, WAIT_TIMEOUT, "connection")
	await until(func() -> bool: return not rogue.is_online(), WAIT_TIMEOUT, "end of the connection")
	check_eq(verified.size(), 0, "players let in")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray(), "players")


func test_a_slow_handshake_has_its_time_and_no_more() -> void:
	await open_server()
	_server.peer_auth.auth_timeout = 1.0
	var refusals := record(_server.peer_auth.peer_refused)
	var rogue := new_rogue_with("")
	rogue.join(_port)
	await until(func() -> bool: return not refusals.is_empty(), WAIT_TIMEOUT, "refusal")
	if not refusals.is_empty():
		check_eq((refusals[0][1] as BackendError).code, "auth_timeout", "reason")
	await until(func() -> bool: return not rogue.is_online(), WAIT_TIMEOUT, "end of the connection")


func open_server() -> void:
	_server = MultiplayerBranch.new()
	_server.name = "Server"
	add_child(_server)
	_port = _server.host()
	_registration = new_registration(unique("Besieged"))
	_registration.port = _port
	succeeded(await _registration.register().wait(), "register")
	var auth := BackendPeerAuth.new()
	auth.registration = _registration
	_server.add_auth(auth)


func new_player_ticket() -> String:
	return await ticket_for(await new_player("Ada"), _registration.server_id)


func let_in(ticket: String) -> void:
	var verified := record(_server.peer_auth.peer_verified)
	new_client(ticket).join(_port)
	await until(func() -> bool: return not verified.is_empty(), WAIT_TIMEOUT, "peer_verified")


## A client without the addon that sends `credential` as it is, or nothing.
func new_rogue_with(credential: String) -> MultiplayerBranch:
	var rogue := MultiplayerBranch.new()
	rogue.name = unique("Rogue").validate_node_name()
	add_child(rogue)
	rogue.api.auth_callback = func(_id: int, _data: PackedByteArray) -> void: pass
	if not credential.is_empty():
		rogue.api.peer_authenticating.connect(
			func(peer_id: int) -> void:
				var sent := rogue.api.send_auth(peer_id, credential.to_utf8_buffer())
				check_eq(sent, OK, "send_auth")
		)
	return rogue


func some_key() -> Dictionary:
	# RFC 8037, appendix A.2.
	var x := "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "alg": "EdDSA", "use": "sig"}


func changed(object: Dictionary, member: String, value: Variant) -> Dictionary:
	var other := object.duplicate()
	other[member] = value
	return other


func encode(object: Dictionary) -> String:
	var text := Marshalls.utf8_to_base64(JSON.stringify(object))
	return text.replace("+", "-").replace("/", "_").replace("=", "")


func decode(part: String) -> Dictionary:
	var padded := part.replace("-", "+").replace("_", "/")
	while padded.length() % 4 != 0:
		padded += "="
	return JSON.parse_string(Marshalls.base64_to_utf8(padded))
