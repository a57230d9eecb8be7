class_name WebClient
extends Node
## A client without the addon, for Web exports: it logs in, reads the room list, gets a join ticket,
## and passes the authentication of BackendPeerAuth. A reply with the key "code" is an error.

signal authenticated
signal refused(code: String, message: String)

const SESSION_FILE := "user://web_session.txt"
## The handshake of BackendPeerAuth: these bytes, one byte for the kind, and a body.
const HANDSHAKE := "BKA1"
const CREDENTIAL := 1
const ACCEPTED := 2
const REFUSED := 3

@export var base_url := "https://backend.example.com"

var _access_token := ""


## Resumes the stored session, or makes a guest account.
func login() -> Dictionary:
	if FileAccess.file_exists(SESSION_FILE):
		var refresh := {"refresh_token": FileAccess.get_file_as_string(SESSION_FILE)}
		var resumed := await _request(HTTPClient.METHOD_POST, "/v1/auth/refresh", refresh)
		# Only the backend ends a session. Without a reply, the session is kept.
		if resumed.get("code") not in ["refresh_token_invalid", "refresh_token_reused"]:
			return _keep(resumed)
	return _keep(await _request(HTTPClient.METHOD_POST, "/v1/auth/anonymous", {}))


## The public rooms. The query is as in "The wire protocol", for example "map=pond&not_full=true".
func list_rooms(query := "") -> Dictionary:
	return await _request(HTTPClient.METHOD_GET, "/v1/rooms?" + query)


func request_ticket(room_id: String) -> Dictionary:
	return await _request(HTTPClient.METHOD_POST, "/v1/rooms/%s/ticket" % room_id, {})


## Connects to the server of a ticket. The result is in the signals.
func join(ticket: Dictionary, url: String) -> Error:
	var api := multiplayer as SceneMultiplayer
	var token: String = ticket["ticket"]
	api.auth_callback = _on_handshake
	api.peer_authenticating.connect(_send_ticket.bind(token), CONNECT_ONE_SHOT)
	var peer := WebSocketMultiplayerPeer.new()
	var error := peer.create_client(url)
	if error == OK:
		multiplayer.multiplayer_peer = peer
	return error


func _send_ticket(peer_id: int, token: String) -> void:
	var packet := HANDSHAKE.to_ascii_buffer()
	packet.append(CREDENTIAL)
	packet.append_array(token.to_ascii_buffer())
	(multiplayer as SceneMultiplayer).send_auth(peer_id, packet)


func _on_handshake(peer_id: int, packet: PackedByteArray) -> void:
	if packet.size() < 5 or packet.slice(0, 4).get_string_from_ascii() != HANDSHAKE:
		return
	match packet[4]:
		ACCEPTED:
			(multiplayer as SceneMultiplayer).complete_auth(peer_id)
			authenticated.emit()
		REFUSED:
			var parsed: Variant = JSON.parse_string(packet.slice(5).get_string_from_utf8())
			if parsed is Dictionary:
				var reason: Dictionary = parsed
				refused.emit(str(reason.get("code")), str(reason.get("message")))


func _keep(session: Dictionary) -> Dictionary:
	if session.has("access_token"):
		_access_token = session["access_token"]
		var file := FileAccess.open(SESSION_FILE, FileAccess.WRITE)
		file.store_string(session["refresh_token"])
	return session


func _request(method: HTTPClient.Method, path: String, body: Variant = null) -> Dictionary:
	var http := HTTPRequest.new()
	http.timeout = 10.0
	add_child(http)
	var headers := PackedStringArray(["Content-Type: application/json"])
	if _access_token:
		headers.append("Authorization: Bearer " + _access_token)
	var text := "" if body == null else JSON.stringify(body)
	var error := http.request(base_url + path, headers, method, text)
	var reply: Array = [error, 0, PackedStringArray(), PackedByteArray()]
	if error == OK:
		reply = await http.request_completed
	http.queue_free()
	if reply[0] != HTTPRequest.RESULT_SUCCESS:
		return {"code": "network", "detail": "The backend cannot be reached (%d)." % reply[0]}
	var content: PackedByteArray = reply[3]
	var parsed: Variant = JSON.parse_string(content.get_string_from_utf8())
	return parsed if parsed is Dictionary else {"code": "bad_reply", "detail": "No JSON came."}
