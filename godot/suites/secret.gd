## Secrets never show: not in what is printed, not in errors, not in what a node tells about itself.
extends "res://backend_suite.gd"


## Hears everything that is printed or reported, from any thread.
class Listener:
	extends Logger

	var _mutex := Mutex.new()
	var _heard := ""

	func _log_message(message: String, _error: bool) -> void:
		_note(message)

	func _log_error(
		_function: String,
		_file: String,
		_line: int,
		code: String,
		rationale: String,
		_editor_notify: bool,
		_error_type: int,
		_backtraces: Array[ScriptBacktrace],
	) -> void:
		_note(code + rationale)

	func heard() -> String:
		_mutex.lock()
		var copy := _heard
		_mutex.unlock()
		return copy

	func _note(text: String) -> void:
		_mutex.lock()
		_heard += text + "\n"
		_mutex.unlock()


func test_no_secret_is_ever_printed() -> void:
	var password := unique("canary-password")
	var email := unique("canary") + "@example.org"
	var device := unique("canary-device-id")
	var server_key := FileAccess.get_file_as_string(OS.get_environment("BACKEND_SERVER_KEY_FILE"))
	var listener := Listener.new()
	OS.add_logger(listener)
	print("the listener hears this")
	var told: PackedStringArray = []

	var session := new_session()
	succeeded(await session.register(email, password, "Ada").wait(), "register")
	var wrong: BackendLoginResult = await session.login_with_password(email, password + "!").wait()
	told.append(wrong.error.message)
	var hostile := new_hostile_backend()
	hostile.answer_text(500, "{")
	var refused: BackendLoginResult = await (
		new_session(config_for(hostile.url())).login_with_password(email, password).wait()
	)
	told.append(refused.error.message)
	succeeded(await new_session().login_with_device(device).wait(), "device")

	var server := await new_server("Secret")
	var ticket := await ticket_for(session, server.server_id)
	var signature := ticket.get_slice(".", 2)
	var validator := BackendTokenValidator.new()
	validator.registration = server
	add_child(validator)
	var forged: BackendValidationResult = await validator.validate(ticket + "AAAA").wait()
	told.append(forged.error.message)
	succeeded(await validator.validate(ticket).wait(), "ticket")
	var replayed: BackendValidationResult = await validator.validate(ticket).wait()
	told.append(replayed.error.message)
	OS.remove_logger(listener)

	var everything := listener.heard() + "\n".join(told) + str(session) + str(server)
	check(everything.contains("the listener hears this"), "the listener hears nothing")
	check(server_key.begins_with("gsk_"), "no server key to look for")
	var secrets: Dictionary[String, String] = {
		"password": password,
		"device id": device,
		"ticket": ticket,
		"signature": signature,
		"server key": server_key.strip_edges(),
	}
	for what: String in secrets:
		check(not everything.contains(secrets[what]), "the %s was told" % what)


func test_no_property_holds_a_token() -> void:
	var session := await new_player("Ada")
	var server := await new_server("Quiet")
	for node: Node in [session, server]:
		for property in node.get_property_list():
			var value := str(node.get(str(property["name"])))
			var member := "%s.%s" % [node.get_class(), property["name"]]
			check(not value.contains("eyJ"), "%s holds a token" % member)
			check(not value.contains("grt_"), "%s holds a refresh token" % member)
			check(not value.contains("gsk_"), "%s holds a server key" % member)
