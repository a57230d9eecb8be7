## The operator's service that says whose token of another platform one is: the backend asks it.
##
## A token `ticket-of-NAME` is NAME's. `BACKEND_HOOK_PORT` says where the backend expects it; it
## must be in the tree.
extends "res://hostile_backend.gd"

const PREFIX := "ticket-of-"

## How often it was asked with the right secret, and without.
var asked := 0
var strangers := 0


func _init() -> void:
	var listening := _listener.listen(OS.get_environment("BACKEND_HOOK_PORT").to_int(), "127.0.0.1")
	assert(listening == OK)


func _read(connection: Connection) -> void:
	super(connection)
	if not _is_complete(connection.request):
		return
	var parts := connection.request.get_string_from_utf8().split("\r\n\r\n", true, 1)
	var secret := "bearer " + OS.get_environment("BACKEND_HOOK_SECRET")
	if not parts[0].to_lower().contains("authorization: " + secret.to_lower()):
		strangers += 1
		answer_text(401, "{}")
		return
	asked += 1
	var question: Dictionary = JSON.parse_string(parts[1])
	var token: String = question["token"]
	if token.begins_with(PREFIX):
		var subject := token.trim_prefix(PREFIX)
		answer_text(200, JSON.stringify({"subject": subject, "display_name": "Steamy"}))
	else:
		answer_text(401, "{}")
