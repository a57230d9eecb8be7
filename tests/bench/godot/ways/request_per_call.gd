extends "res://ways/queued_way.gd"
## A new HTTPRequest for each call, as most tutorials do it.


func _ready() -> void:
	limit = 256


func begin() -> void:
	var request := HTTPRequest.new()
	add_child(request)
	request.request_completed.connect(_on_completed.bind(request))
	request.request(url + "/v1/validate", headers(), HTTPClient.METHOD_POST, body_text())


func _on_completed(
	_result: int,
	status: int,
	_headers: PackedStringArray,
	body: PackedByteArray,
	request: HTTPRequest
) -> void:
	request.queue_free()
	end(status, body)
