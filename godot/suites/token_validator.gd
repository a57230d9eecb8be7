## Which tokens a server believes. Scripts get join tickets in their hands, so these are what is
## tried here.
extends "res://backend_suite.gd"

const POLICIES: Array[int] = [
	BackendTokenValidator.LOCAL_FIRST,
	BackendTokenValidator.LOCAL_ONLY,
	BackendTokenValidator.REMOTE_ONLY,
]


func test_a_good_ticket_names_its_player() -> void:
	var server := await new_server("Good")
	var session := await new_player("Ada")
	for policy in POLICIES:
		var validator := new_validator(server, policy)
		var ticket := await ticket_for(session, server.server_id)
		var validated: BackendValidationResult = await validator.validate(ticket).wait()
		if succeeded(validated, "policy %d" % policy):
			check_eq(validated.player.player_id, session.player_id, "player")
			check_eq(validated.player.display_name, "Ada", "display name")
			check_eq(validated.player.token_kind, BackendPlayer.KIND_JOIN_TICKET, "kind")


func test_a_ticket_is_good_once() -> void:
	var server := await new_server("Once")
	var session := await new_player("Ada")
	for policy in POLICIES:
		var validator := new_validator(server, policy)
		var ticket := await ticket_for(session, server.server_id)
		succeeded(await validator.validate(ticket).wait(), "first time, policy %d" % policy)
		var again: BackendValidationResult = await validator.validate(ticket).wait()
		failed_with(again, "ticket_used", "second time, policy %d" % policy)
		check_eq(again.player, null, "player")


func test_of_two_uses_at_once_one_succeeds() -> void:
	var server := await new_server("Race")
	var session := await new_player("Ada")
	for policy in POLICIES:
		var validator := new_validator(server, policy)
		var ticket := await ticket_for(session, server.server_id)
		var requests: Array[BackendRequest] = []
		for _attempt in 8:
			requests.append(validator.validate(ticket))
		var good := 0
		for request in requests:
			var validated: BackendValidationResult = await request.wait()
			if validated.ok():
				good += 1
			else:
				failed_with(validated, "ticket_used", "the other uses, policy %d" % policy)
		check_eq(good, 1, "successful uses, policy %d" % policy)


func test_a_ticket_for_another_server_is_refused() -> void:
	var here := await new_server("Here")
	var there := await new_server("There")
	var session := await new_player("Ada")
	for policy in POLICIES:
		var validator := new_validator(here, policy)
		var ticket := await ticket_for(session, there.server_id)
		failed_with(await validator.validate(ticket).wait(), "token_invalid", "policy %d" % policy)
		var right := new_validator(there, policy)
		succeeded(await right.validate(ticket).wait(), "at the right server, policy %d" % policy)


func test_forged_tickets_are_refused() -> void:
	var server := await new_server("Forged")
	var session := await new_player("Ada")
	var ticket := await ticket_for(session, server.server_id)
	var parts := ticket.split(".")
	var claims := decode(parts[1])
	claims["sub"] = "00000000-0000-7000-8000-000000000000"
	var header := decode(parts[0])
	var unsigned := header.duplicate()
	unsigned["alg"] = "none"
	var symmetric := header.duplicate()
	symmetric["alg"] = "HS256"
	var other_key := header.duplicate()
	other_key["kid"] = "somebody-elses-key"
	var own_key := header.duplicate()
	own_key["jwk"] = {"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)}
	var forgeries: Dictionary[String, String] = {
		"other player": ".".join([parts[0], encode(claims), parts[2]]),
		"no signature": ".".join([parts[0], parts[1], ""]),
		"alg none": ".".join([encode(unsigned), parts[1], ""]),
		"alg none with signature": ".".join([encode(unsigned), parts[1], parts[2]]),
		"alg HS256": ".".join([encode(symmetric), parts[1], parts[2]]),
		"unknown kid": ".".join([encode(other_key), parts[1], parts[2]]),
		"key inside the token": ".".join([encode(own_key), parts[1], parts[2]]),
		"zero signature": ".".join([parts[0], parts[1], "A".repeat(86)]),
		"cut signature": ticket.left(-4),
	}
	for policy in POLICIES:
		var validator := new_validator(server, policy)
		for name_of: String in forgeries:
			var what := "%s, policy %d" % [name_of, policy]
			failed_with(await validator.validate(forgeries[name_of]).wait(), "token_invalid", what)
		validator.free()
	# None of the forgeries may have used up the real one.
	succeeded(await new_validator(server, POLICIES[0]).validate(ticket).wait(), "the real ticket")


func test_garbage_is_refused() -> void:
	var server := await new_server("Garbage")
	for policy in POLICIES:
		var validator := new_validator(server, policy)
		for garbage: String in [
			"x", "..", "a.b.c", "a.b.c.d", "{}", "ä.ö.ü", "null", "%s.%s.%s" % ["e30", "e30", "e30"]
		]:
			failed_with(
				await validator.validate(garbage).wait(),
				"token_invalid",
				"%s, policy %d" % [garbage, policy]
			)
		for unfit: String in ["", "x".repeat(8 * 1024 + 1)]:
			var what := "%d bytes, policy %d" % [unfit.length(), policy]
			failed_with(await validator.validate(unfit).wait(), "invalid_field", what, "token")


func test_local_validation_needs_no_backend_once_it_has_the_keys() -> void:
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	var server := await new_server("Local", config)
	var session := await new_player("Ada")
	var validator := new_validator(server, BackendTokenValidator.LOCAL_FIRST, config)
	succeeded(
		await validator.validate(await ticket_for(session, server.server_id)).wait(),
		"with the backend"
	)
	var ticket := await ticket_for(session, server.server_id)
	proxy.cut_line()
	succeeded(await validator.validate(ticket).wait(), "without the backend")
	failed_with(await validator.validate(ticket).wait(), "ticket_used", "again without the backend")


func test_remote_validation_without_the_backend_is_a_retryable_error() -> void:
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 2.0
	var server := await new_server("Remote", config)
	var ticket := await ticket_for(await new_player("Ada"), server.server_id)
	var validator := new_validator(server, BackendTokenValidator.REMOTE_ONLY, config)
	proxy.cut_line()
	var validated: BackendValidationResult = await validator.validate(ticket).wait()
	check(validated.failed() and validated.error.retryable, "not a retryable error")
	proxy.connect_line()
	succeeded(await validator.validate(ticket).wait(), "after the outage")


func new_validator(
	server: BackendServerRegistration, policy: int, config: BackendConfig = null
) -> BackendTokenValidator:
	var validator := BackendTokenValidator.new()
	validator.config = config
	validator.registration = server
	validator.set(&"policy", policy)
	add_child(validator)
	return validator


func encode(object: Dictionary) -> String:
	var text := Marshalls.utf8_to_base64(JSON.stringify(object))
	return text.replace("+", "-").replace("/", "_").replace("=", "")


func decode(part: String) -> Dictionary:
	var padded := part.replace("-", "+").replace("_", "/")
	while padded.length() % 4 != 0:
		padded += "="
	return JSON.parse_string(Marshalls.base64_to_utf8(padded))
