extends "res://ways/queued_way.gd"
## HTTPClients that keep their connections, polled in every frame.

var _idle: Array[HTTPClient] = []
var _asked: Array[HTTPClient] = []
var _bodies: Dictionary[HTTPClient, PackedByteArray] = {}


func _ready() -> void:
	limit = 64
	var host := url.trim_prefix("http://").get_slice(":", 0)
	var port := int(url.get_slice(":", 2))
	for _slot in limit:
		var client := HTTPClient.new()
		client.connect_to_host(host, port)
		while client.get_status() in [HTTPClient.STATUS_RESOLVING, HTTPClient.STATUS_CONNECTING]:
			client.poll()
		_idle.append(client)


func begin() -> void:
	var client: HTTPClient = _idle.pop_back()
	client.request(HTTPClient.METHOD_POST, "/v1/validate", headers(), body_text())
	_bodies[client] = PackedByteArray()
	_asked.append(client)


func _process(_delta: float) -> void:
	var asked := _asked
	var answered: Array[HTTPClient] = []
	_asked = []
	for client in asked:
		if _is_answered(client):
			answered.append(client)
		else:
			_asked.append(client)
	for client in answered:
		_idle.append(client)
		var body := _bodies[client]
		_bodies.erase(client)
		end(client.get_response_code(), body)


func _is_answered(client: HTTPClient) -> bool:
	client.poll()
	match client.get_status():
		HTTPClient.STATUS_REQUESTING:
			return false
		HTTPClient.STATUS_BODY:
			_bodies[client].append_array(client.read_response_body_chunk())
			client.poll()
			return client.get_status() != HTTPClient.STATUS_BODY
		_:
			return true
