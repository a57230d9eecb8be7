## A backend that answers whatever it is told to, over real sockets: replies no honest backend would
## send.
##
## Everything it needs happens in `_process`; it must be in the tree. It listens on a free port of
## the loopback.
extends Node

## What is sent for every request; see the `answer_…` methods.
enum Manner { REPLY, DRIP, FLOOD, CLOSE, SILENCE }

const FLOOD_CHUNK_BYTES := 64 * 1024


class Connection:
	extends RefCounted

	var stream: StreamPeerTCP
	var request := PackedByteArray()
	var outgoing := PackedByteArray()
	var answering := false


## First lines of the requests seen, such as `POST /v1/auth/anonymous HTTP/1.1`, in order.
var requests: PackedStringArray = []
## Bytes of body handed to the kernel while flooding.
var flooded_bytes := 0

var _listener := TCPServer.new()
var _connections: Array[Connection] = []
var _manner := Manner.REPLY
var _reply := PackedByteArray()


func _init() -> void:
	var listening := _listener.listen(0, "127.0.0.1")
	assert(listening == OK)


func _process(_delta: float) -> void:
	while _listener.is_connection_available():
		var connection := Connection.new()
		connection.stream = _listener.take_connection()
		_connections.append(connection)
	for connection in _connections:
		_serve(connection)
	_connections = _connections.filter(
		func(connection: Connection) -> bool:
			return connection.stream.get_status() == StreamPeerTCP.STATUS_CONNECTED
	)


func url() -> String:
	return "http://127.0.0.1:%d" % _listener.get_local_port()


## Exactly these bytes, be they HTTP or not, then the connection is closed.
func answer_raw(bytes: PackedByteArray) -> void:
	_manner = Manner.REPLY
	_reply = bytes


## A well-formed reply around `body`.
func answer(status: int, body: PackedByteArray, headers: PackedStringArray = []) -> void:
	answer_raw(_head(status, body.size(), headers) + body)


## A well-formed reply around the text of `body`.
func answer_text(status: int, body: String, headers: PackedStringArray = []) -> void:
	answer(status, body.to_utf8_buffer(), headers)


## A reply that comes a byte a frame and never ends.
func answer_dripping() -> void:
	_manner = Manner.DRIP
	_reply = _head(200, 1_000_000, [])


## A body without end, as fast as the client takes it.
func answer_flooding() -> void:
	_manner = Manner.FLOOD
	_reply = _head(200, -1, [])


## The connection is closed as soon as the request was read.
func close_without_answer() -> void:
	_manner = Manner.CLOSE


## The request is read, and nothing comes back.
func stay_silent() -> void:
	_manner = Manner.SILENCE


func _head(status: int, length: int, headers: PackedStringArray) -> PackedByteArray:
	var lines: PackedStringArray = ["HTTP/1.1 %d Whatever" % status]
	if not Array(headers).any(
		func(line: String) -> bool: return line.to_lower().begins_with("content-type:")
	):
		lines.append("Content-Type: application/json")
	if length >= 0:
		lines.append("Content-Length: %d" % length)
	lines.append("Connection: close")
	lines.append_array(headers)
	return ("\r\n".join(lines) + "\r\n\r\n").to_utf8_buffer()


func _serve(connection: Connection) -> void:
	var stream := connection.stream
	stream.poll()
	if stream.get_status() != StreamPeerTCP.STATUS_CONNECTED:
		return
	_read(connection)
	if not connection.answering:
		if not _is_complete(connection.request):
			return
		connection.answering = true
		requests.append(connection.request.get_string_from_utf8().get_slice("\r\n", 0))
		if _manner == Manner.CLOSE:
			stream.disconnect_from_host()
			return
		connection.outgoing = _reply.duplicate()
	_write(connection)


func _read(connection: Connection) -> void:
	var available := connection.stream.get_available_bytes()
	if available > 0:
		var got := connection.stream.get_partial_data(available)
		if got[0] == OK:
			connection.request.append_array(got[1] as PackedByteArray)


func _write(connection: Connection) -> void:
	match _manner:
		Manner.REPLY:
			_send(connection, connection.outgoing.size())
			if connection.outgoing.is_empty():
				connection.stream.disconnect_from_host()
		Manner.DRIP:
			if connection.outgoing.is_empty():
				connection.outgoing = " ".to_utf8_buffer()
			_send(connection, 1)
		Manner.FLOOD:
			if connection.outgoing.is_empty():
				connection.outgoing.resize(FLOOD_CHUNK_BYTES)
				connection.outgoing.fill(0x20)
			flooded_bytes += _send(connection, connection.outgoing.size())


func _send(connection: Connection, bytes: int) -> int:
	if bytes == 0:
		return 0
	var sent := connection.stream.put_partial_data(connection.outgoing.slice(0, bytes))
	var count := int(sent[1])
	connection.outgoing = connection.outgoing.slice(count)
	return count


func _is_complete(request: PackedByteArray) -> bool:
	var text := request.get_string_from_ascii()
	var head_end := text.find("\r\n\r\n")
	if head_end < 0:
		return false
	for line in text.left(head_end).to_lower().split("\r\n"):
		if line.begins_with("content-length:"):
			return request.size() >= head_end + 4 + line.get_slice(":", 1).strip_edges().to_int()
	return true
