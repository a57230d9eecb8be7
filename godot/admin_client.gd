## What the operator of the backend does and sees: bans players, ends sessions, reads the mails that
## go out.
##
## `BACKEND_ADMIN_KEY` opens the admin routes, `BACKEND_MAIL_FOLDER` says where mails lie.
extends Node


func ban(player_id: String, seconds: int = 0) -> int:
	var order := {"reason": "suite"}
	if seconds > 0:
		order["seconds"] = seconds
	return await _order(HTTPClient.METHOD_PUT, "%s/ban" % player_id, JSON.stringify(order))


func unban(player_id: String) -> int:
	return await _order(HTTPClient.METHOD_DELETE, "%s/ban" % player_id)


func end_sessions(player_id: String) -> int:
	return await _order(HTTPClient.METHOD_DELETE, "%s/sessions" % player_id)


## Asks a game server to drain and leave.
func drain(server_id: String) -> int:
	return await _order_at(HTTPClient.METHOD_PUT, "servers/%s/drain" % server_id)


## The texts of the mails to `email`, in no order.
static func mails_to(email: String) -> PackedStringArray:
	var mails: PackedStringArray = []
	var folder := OS.get_environment("BACKEND_MAIL_FOLDER")
	for file in DirAccess.get_files_at(folder):
		var text := FileAccess.get_file_as_string(folder.path_join(file))
		if file.ends_with(".eml") and text.to_lower().contains("to: " + email.to_lower()):
			mails.append(text)
	return mails


## The codes in the mails to `email`.
static func codes_for(email: String) -> PackedStringArray:
	var code := RegEx.create_from_string("(?m)^ +([0-9A-Z]{5}-[0-9A-Z]{5})\\s*$")
	var codes: PackedStringArray = []
	for mail in mails_to(email):
		for found in code.search_all(mail):
			codes.append(found.get_string(1))
	return codes


func _order(method: HTTPClient.Method, what: String, body: String = "") -> int:
	return await _order_at(method, "players/" + what, body)


## The HTTP status of the answer, 0 without one.
func _order_at(method: HTTPClient.Method, what: String, body: String = "") -> int:
	var request := HTTPRequest.new()
	add_child(request)
	var url := OS.get_environment("BACKEND_URL") + "/v1/admin/" + what
	var headers := PackedStringArray(
		[
			"Authorization: Bearer " + OS.get_environment("BACKEND_ADMIN_KEY"),
			"Content-Type: application/json",
		]
	)
	var sent := request.request(url, headers, method, body)
	assert(sent == OK)
	var answer: Array = await request.request_completed
	request.queue_free()
	return answer[1]
