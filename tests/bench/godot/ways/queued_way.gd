extends "res://ways/way.gd"
## A way of the engine's own: so many calls at a time, the rest waits.

var limit := 16

var _waiting := 0
var _begun := 0


func submit() -> void:
	submitted += 1
	if _begun < limit:
		_begun += 1
		begin()
	else:
		_waiting += 1


func drop_waiting() -> void:
	submitted -= _waiting
	_waiting = 0


## Puts one call on its way.
func begin() -> void:
	pass


## A reply; the next call may begin.
func end(status: int, body: PackedByteArray) -> void:
	_begun -= 1
	if status == 200:
		var reply: Dictionary = JSON.parse_string(body.get_string_from_utf8())
		note(reply["player_id"] as String)
	else:
		note("")
	if _waiting > 0:
		_waiting -= 1
		_begun += 1
		begin()


func headers() -> PackedStringArray:
	return ["Content-Type: application/json", "Authorization: Bearer " + key]


func body_text() -> String:
	return JSON.stringify({"token": token})
