extends "res://ways/queued_way.gd"
## A pool of HTTPRequest nodes.

var _idle: Array[HTTPRequest] = []


func _ready() -> void:
	for _node in limit:
		var request := HTTPRequest.new()
		request.use_threads = use_threads
		request.request_completed.connect(_on_completed.bind(request))
		add_child(request)
		_idle.append(request)


func begin() -> void:
	var request: HTTPRequest = _idle.pop_back()
	request.request(url + "/v1/validate", headers(), HTTPClient.METHOD_POST, body_text())


func _on_completed(
	_result: int,
	status: int,
	_headers: PackedStringArray,
	body: PackedByteArray,
	request: HTTPRequest
) -> void:
	_idle.append(request)
	end(status, body)
