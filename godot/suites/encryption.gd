## DTLS: whoever is to be encrypted is encrypted, or does not speak at all.
##
## Some distributions build the engine against a system library that has no DTLS for ENet. There the
## ends must refuse; elsewhere they must meet.
extends "res://backend_suite.gd"

const MultiplayerBranch := preload("res://multiplayer_branch.gd")
const NOT_BUILT := "DTLS support not available"


func test_players_get_the_certificate_with_their_ticket() -> void:
	var registration := new_registration(unique("Sealed"))
	registration.dtls = true
	succeeded(await registration.register().wait(), "register")
	var ticket := await _ticket(registration)
	check(ticket.certificate.begins_with("-----BEGIN CERTIFICATE-----"), "certificate in PEM")
	check(not ticket.certificate.contains("PRIVATE"), "nothing private in it")
	check_eq(X509Certificate.new().load_from_string(ticket.certificate), OK, "engine reads it")
	var again := await _ticket(registration)
	check_eq(again.certificate, ticket.certificate, "certificate of the same run")


func test_a_room_that_is_not_encrypted_has_no_certificate() -> void:
	var registration := new_registration(unique("Open"))
	succeeded(await registration.register().wait(), "register")
	check_eq((await _ticket(registration)).certificate, "", "certificate")


func test_an_encrypted_server_is_never_open_to_the_others() -> void:
	var has_dtls := _has_dtls()
	var server := MultiplayerBranch.new()
	add_child(server)
	var port := server.host()
	var registration := new_registration(unique("Sealed"))
	registration.dtls = true
	registration.port = port
	if not has_dtls:
		expect_error("the server is closed")
	var gatekeeper := BackendPeerAuth.new()
	gatekeeper.registration = registration
	server.add_auth(gatekeeper)
	succeeded(await registration.register().wait(), "register")
	check_eq(server.is_online(), has_dtls, "the server listens")

	var plain := MultiplayerBranch.new()
	add_child(plain)
	plain.join(port)
	var ticket := await _ticket(registration)
	var sealed := MultiplayerBranch.new()
	add_child(sealed)
	var auth := BackendPeerAuth.new()
	auth.use_ticket(ticket)
	sealed.add_auth(auth)
	var welcomes := record(auth.authenticated)
	var refusals := record(auth.refused)
	sealed.join(port)
	await until(
		func() -> bool: return not (welcomes.is_empty() and refusals.is_empty()), 10.0, "an answer"
	)
	check_eq(welcomes.size(), 1 if has_dtls else 0, "players let in")
	if not has_dtls and not refusals.is_empty():
		check_eq((refusals[0][0] as BackendError).code, "encryption_failed", "reason")
	check(not plain.is_online(), "nobody connects in the clear")


func test_a_client_with_a_certificate_does_not_speak_in_the_clear() -> void:
	var has_dtls := _has_dtls()
	var server := MultiplayerBranch.new()
	add_child(server)
	var port := server.host()
	var registration := new_registration(unique("Open"))
	registration.port = port
	succeeded(await registration.register().wait(), "register")
	var gatekeeper := BackendPeerAuth.new()
	gatekeeper.registration = registration
	server.add_auth(gatekeeper)
	var verified := record(gatekeeper.peer_verified)

	var sealed := new_registration(unique("Sealed"))
	sealed.dtls = true
	succeeded(await sealed.register().wait(), "register")
	var client := MultiplayerBranch.new()
	add_child(client)
	var auth := BackendPeerAuth.new()
	auth.ticket = (await _ticket(registration)).ticket
	auth.server_certificate = (await _ticket(sealed)).certificate
	client.add_auth(auth)
	var refusals := record(auth.refused)
	client.join(port)
	if has_dtls:
		await frames(60)
	else:
		await until(func() -> bool: return not refusals.is_empty(), 10.0, "refused")
	check(not client.is_online(), "the client is not connected")
	check_eq(verified.size(), 0, "players let in")


func test_a_certificate_that_ships_with_the_game_is_refused() -> void:
	var registration := new_registration(unique("Careless"))
	registration.dtls = true
	registration.dtls_certificate_file = "res://server.crt"
	registration.dtls_key_file = "res://server.key"
	var refused: BackendRegistrationResult = await registration.register().wait()
	check(refused.failed(), "registering fails")
	if refused.failed():
		check_eq(refused.error.field, "dtls_certificate_file", "field")


func test_half_of_a_pair_of_files_is_refused() -> void:
	var registration := new_registration(unique("Half"))
	registration.dtls = true
	registration.dtls_certificate_file = "user://absent.crt"
	var refused: BackendRegistrationResult = await registration.register().wait()
	check(refused.failed(), "registering fails")
	if refused.failed():
		check_eq(refused.error.field, "dtls_key_file", "field")


func _ticket(registration: BackendServerRegistration) -> BackendJoinTicket:
	var session := await new_player("Ada")
	var rooms := new_rooms(session)
	var ticket: BackendJoinTicket = await rooms.request_ticket(registration.server_id).wait()
	succeeded(ticket, "ticket")
	return ticket


func _has_dtls() -> bool:
	tolerate_errors(NOT_BUILT)
	var crypto := Crypto.new()
	var key := crypto.generate_rsa(2048)
	var certificate := crypto.generate_self_signed_certificate(key)
	var connection := ENetConnection.new()
	connection.create_host_bound("127.0.0.1", 0)
	var error := connection.dtls_server_setup(TLSOptions.server(key, certificate))
	connection.destroy()
	return error == OK
