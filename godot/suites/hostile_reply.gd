## Replies no honest backend would send: each becomes a typed error, and nothing else happens.
extends "res://backend_suite.gd"

## Far above any honest reply, far below what would hurt.
const FLOOD_BOUND_BYTES := 32 * 1024 * 1024

var _backend: HostileBackend


func test_garbage_instead_of_http() -> void:
	open_backend()
	for garbage: PackedByteArray in [
		PackedByteArray([0, 1, 2, 255, 254]),
		"SSH-2.0-OpenSSH_9.9\r\n".to_utf8_buffer(),
		"HTTP/9.9 abc\r\n\r\n".to_utf8_buffer(),
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}".to_utf8_buffer(),
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n{}".to_utf8_buffer(),
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n".to_utf8_buffer(),
	]:
		_backend.answer_raw(garbage)
		await expect_error_of(
			["network", "bad_reply"], "garbage %s" % garbage.hex_encode().left(40)
		)


func test_a_body_that_is_not_what_was_asked_for() -> void:
	open_backend()
	for body: String in [
		"",
		"{",
		"null",
		"true",
		"42",
		"[]",
		'"text"',
		"{}",
		"<html>captive portal</html>",
		'{"player_id": "p", "display_name": "d"',
		session_json("player_id", 7),
		session_json("access_token", null),
		session_json("expires_in", "soon"),
		session_json("expires_in", -5),
		session_json("expires_in", 1e300),
		session_json("refresh_expires_in", 0.5),
		session_json("created", "yes"),
		"[".repeat(100_000),
		'{"a":'.repeat(100_000),
	]:
		_backend.answer_text(200, body)
		await expect_error_of(["bad_reply"], "body %s" % body.left(60))


func test_text_that_is_not_utf8() -> void:
	open_backend()
	var body := session_json("display_name", "X").to_utf8_buffer()
	body[body.find("X".unicode_at(0))] = 0xff
	_backend.answer(200, body)
	await expect_error_of(["bad_reply"], "body that is not UTF-8")


func test_tokens_that_cannot_go_into_a_header() -> void:
	open_backend()
	for token: String in ["a\r\nX-Evil: 1", "ä", "", "x".repeat(1_000_000)]:
		_backend.answer_text(200, session_json("access_token", token))
		var session := new_session(hostile_config())
		var login: BackendLoginResult = await session.login_anonymous().wait()
		_backend.answer_text(200, '{"player_id": "p", "documents": []}')
		var documents: BackendPlayerDocuments = await session.read_documents().wait()
		check(login.failed() or documents.failed(), "token %s was used" % token.left(20).c_escape())
		session.free()


func test_a_page_of_rooms_with_impossible_rooms() -> void:
	open_backend()
	var session := await hostile_login()
	for rooms_json: String in [
		'{"rooms": {}}',
		'{"rooms": [null]}',
		'{"rooms": [{}]}',
		'{"rooms": [%s]}' % room_json("port", 70_000),
		'{"rooms": [%s]}' % room_json("port", -1),
		'{"rooms": [%s]}' % room_json("players", 1e30),
		'{"rooms": [%s]}' % room_json("tags", "calm"),
		'{"rooms": [%s]}' % room_json("status", 3),
		'{"rooms": [], "next_cursor": 5}',
	]:
		_backend.answer_text(200, rooms_json)
		var rooms := new_rooms(session)
		var page: BackendRoomPage = await rooms.list_rooms().wait()
		failed_with(page, "bad_reply", rooms_json.left(80))
		check_eq(page.size(), 0, "rooms of a failed page")
		rooms.free()


func test_a_newer_backend_may_say_more() -> void:
	open_backend()
	var session := await hostile_login()
	var room := room_json("invented_in_2031", {"deep": [1]})
	_backend.answer_text(200, '{"rooms": [%s], "total": 1}' % room)
	var page: BackendRoomPage = await new_rooms(session).list_rooms().wait()
	if succeeded(page, "list"):
		check_eq(page.get_room(0).name, "Pond", "name")
	_backend.answer_text(418, '{"code": "invented_in_2031", "title": "t", "detail": "d"}')
	var refused: BackendRoomPage = await new_rooms(session).list_rooms().wait()
	check(refused.failed(), "a refusal with an unknown code is none")
	check_eq(refused.error.http_status if refused.failed() else 0, 418, "http status")


func test_a_flood_is_cut_off() -> void:
	open_backend()
	_backend.answer_flooding()
	var config := hostile_config()
	config.timeout_seconds = 60.0
	var session := new_session(config)
	var login: BackendLoginResult = await session.login_anonymous().wait()
	failed_with(login, "reply_too_large", "login")
	check(_backend.flooded_bytes < FLOOD_BOUND_BYTES, "read %d bytes" % _backend.flooded_bytes)


func test_a_reply_that_announces_too_much_is_not_awaited() -> void:
	open_backend()
	_backend.answer_raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{".to_utf8_buffer())
	await expect_error_of(["reply_too_large"], "announced size")


func test_a_bomb_is_not_inflated() -> void:
	open_backend()
	var zeros := PackedByteArray()
	zeros.resize(256 * 1024 * 1024)
	var bomb := zeros.compress(FileAccess.COMPRESSION_GZIP)
	zeros.clear()
	_backend.answer(200, bomb, ["Content-Encoding: gzip"])
	await expect_error_of(["reply_too_large"], "%d bytes of gzip" % bomb.size())


func test_a_reply_that_drips_times_out() -> void:
	open_backend()
	_backend.answer_dripping()
	await expect_error_of(["timeout"], "dripping reply")


func test_no_answer_at_all() -> void:
	open_backend()
	_backend.close_without_answer()
	await expect_error_of(["network"], "closed connection")
	_backend.answer_raw(
		'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"player_id"'.to_utf8_buffer()
	)
	await expect_error_of(["network", "bad_reply"], "half a body")


func test_unavailable_says_when_to_come_back() -> void:
	open_backend()
	var config := hostile_config()
	config.retry_attempts = 1
	_backend.answer_text(
		503, "<html>down for maintenance</html>", ["Retry-After: 7", "Content-Type: text/html"]
	)
	var login: BackendLoginResult = await new_session(config).login_anonymous().wait()
	if not login.failed():
		fail("a 503 was taken for a login")
		return
	check_eq(login.error.http_status, 503, "http status")
	check_eq(login.error.retryable, true, "retryable")
	check_eq(login.error.retry_after_seconds, 7.0, "retry after")


func test_a_retry_after_that_is_none_is_ignored() -> void:
	open_backend()
	for value: String in [
		"soon", "-5", "1e99", "99999999999999999999", "Thu, 99 Foo 9999 99:99:99 GMT"
	]:
		_backend.answer_text(503, "{}", ["Retry-After: " + value])
		var login: BackendLoginResult = await new_session(hostile_config()).login_anonymous().wait()
		check(
			login.failed() and login.error.retryable,
			"Retry-After %s: not a retryable error" % value
		)
		if login.failed():
			var wait := login.error.retry_after_seconds
			check(
				is_finite(wait) and wait >= 0.0 and wait <= 86_400.0,
				"Retry-After %s: wait %s" % [value, wait]
			)


func test_problems_that_are_none() -> void:
	open_backend()
	for body: String in [
		"",
		"null",
		"[]",
		'{"code": 5}',
		'{"code": "invalid_credentials"}',
		'{"code": "x", "detail": "%s"}' % "y".repeat(100_000),
		'{"code": "x", "retry_after": -1}',
	]:
		_backend.answer_text(400, body, ["Content-Type: application/problem+json"])
		var login: BackendLoginResult = await new_session(hostile_config()).login_anonymous().wait()
		if check(login.failed(), "a 400 was taken for a login"):
			check_eq(login.error.http_status, 400, "http status of %s" % body.left(40))
			check(not login.error.code.is_empty(), "no code for %s" % body.left(40))
			check(
				login.error.message.length() < 5_000,
				"message of %d characters" % login.error.message.length()
			)


func test_redirects_are_not_followed() -> void:
	open_backend()
	var elsewhere := HostileBackend.new()
	add_child(elsewhere)
	for status: int in [301, 302, 307, 308]:
		_backend.answer_text(status, "", ["Location: %s/steal" % elsewhere.url()])
		var login: BackendLoginResult = await new_session(hostile_config()).login_anonymous().wait()
		check(login.failed(), "a %d was taken for a login" % status)
	check_eq(elsewhere.requests, PackedStringArray(), "requests that went elsewhere")


func test_keys_that_are_none_let_nobody_in() -> void:
	var server := await new_server("Keys")
	var session := await new_player("Ada")
	# Keys of the real backend are known, in memory and on disk, when the hostile one is asked.
	var honest := new_validator(server, null)
	var honest_ticket := await ticket_for(session, server.server_id)
	succeeded(await honest.validate(honest_ticket).wait(), "honest backend")
	await frames(30)
	var ticket := await ticket_for(session, server.server_id)
	for body: String in [
		"{",
		'{"keys": 7}',
		'{"keys": []}',
		'{"keys": [{"kty": "oct", "k": "AAAA"}]}',
	]:
		open_backend()
		_backend.answer_text(200, body)
		var validator := new_validator(server, hostile_config())
		var validated: BackendValidationResult = await validator.validate(ticket).wait()
		check(validated.failed() and validated.player == null, "let in with keys %s" % body)
		validator.free()
		_backend.free()


func new_validator(
	server: BackendServerRegistration, config: BackendConfig
) -> BackendTokenValidator:
	var validator := BackendTokenValidator.new()
	validator.config = config
	validator.registration = server
	validator.policy = BackendTokenValidator.LOCAL_ONLY
	add_child(validator)
	return validator


func open_backend() -> void:
	_backend = HostileBackend.new()
	add_child(_backend)


func hostile_config() -> BackendConfig:
	var config := config_for(_backend.url())
	config.timeout_seconds = 3.0
	return config


## The reply is refused with one of `codes`, and the next honest call works: nothing is left in a
## bad state.
func expect_error_of(codes: Array[String], what: String) -> void:
	var session := new_session(hostile_config())
	var login: BackendLoginResult = await session.login_anonymous().wait()
	if check(login.failed(), "%s: was taken for a login" % what):
		check(
			login.error.code in codes,
			"%s: code is %s (%s)" % [what, login.error.code, login.error.message]
		)
	check_eq(session.is_logged_in(), false, "%s: logged in" % what)
	session.free()


## A session that believes what the hostile backend told it.
func hostile_login() -> BackendSession:
	_backend.answer_text(200, session_json("display_name", "Believer"))
	var session := new_session(hostile_config())
	succeeded(await session.login_anonymous().wait(), "login at the hostile backend")
	return session


func session_json(field: String, value: Variant) -> String:
	var session := {
		"player_id": "01890a5d-ac96-774b-bcce-b302099a8057",
		"display_name": "Ada",
		"access_token": "%s.%s.%s" % ["e30", "e30", "A".repeat(86)],
		"expires_in": 600,
		"refresh_token": "grt_" + "A".repeat(43),
		"refresh_expires_in": 86_400,
		"created": true,
	}
	session[field] = value
	return JSON.stringify(session)


func room_json(field: String, value: Variant) -> String:
	var room := {
		"room_id": "01890a5d-ac96-774b-bcce-b302099a8057",
		"name": "Pond",
		"address": "127.0.0.1",
		"port": 7777,
		"map": "",
		"mode": "",
		"region": "",
		"version": "",
		"tags": [],
		"players": 0,
		"max_players": 2,
		"status": "ready",
		"created_at": "2026-01-01T00:00:00Z",
	}
	room[field] = value
	return JSON.stringify(room)
