## Stands between the extension and the real backend, and can cut the line: an outage without
## stopping the backend.
##
## Bytes are passed on as they are, in `_process`; it must be in the tree.
extends Node


class Line:
	extends RefCounted

	var near: StreamPeerTCP
	var far := StreamPeerTCP.new()
	var to_far := PackedByteArray()
	var to_near := PackedByteArray()


## Connections accepted since the start.
var accepted := 0

var _listener := TCPServer.new()
var _lines: Array[Line] = []
var _port := 0
var _host := ""
var _answered := ""
var _answer := PackedByteArray()
var _target_port := 0


## Relays to `target`, a URL such as `http://127.0.0.1:8420`.
func open(target: String) -> void:
	var address := target.trim_prefix("http://").get_slice("/", 0)
	_host = address.get_slice(":", 0)
	_target_port = address.get_slice(":", 1).to_int()
	connect_line()


func url() -> String:
	return "http://127.0.0.1:%d" % _port


## Breaks every connection and refuses new ones.
func cut_line() -> void:
	_listener.stop()
	for line in _lines:
		line.near.disconnect_from_host()
		line.far.disconnect_from_host()
	_lines.clear()


## Takes connections, again on the same port.
func connect_line() -> void:
	var listening := _listener.listen(_port, "127.0.0.1")
	assert(listening == OK)
	_port = _listener.get_local_port()


## Answers requests that begin with `start`, such as `GET /path`, with these bytes, and closes the
## connection.
func answer_instead(start: String, bytes: PackedByteArray) -> void:
	_answered = start
	_answer = bytes


func _process(_delta: float) -> void:
	while _listener.is_listening() and _listener.is_connection_available():
		accepted += 1
		var line := Line.new()
		line.near = _listener.take_connection()
		var connecting := line.far.connect_to_host(_host, _target_port)
		assert(connecting == OK)
		_lines.append(line)
	for line in _lines:
		_pass_on(line)
	_lines = _lines.filter(func(line: Line) -> bool: return _is_alive(line))


func _pass_on(line: Line) -> void:
	line.near.poll()
	line.far.poll()
	line.to_far.append_array(_take(line.near))
	if not _answered.is_empty() and line.to_far.get_string_from_ascii().begins_with(_answered):
		line.near.put_data(_answer)
		line.near.disconnect_from_host()
		return
	line.to_near.append_array(_take(line.far))
	line.to_far = _give(line.far, line.to_far)
	line.to_near = _give(line.near, line.to_near)


func _is_alive(line: Line) -> bool:
	if line.far.get_status() == StreamPeerTCP.STATUS_CONNECTING:
		return true
	var connected := StreamPeerTCP.STATUS_CONNECTED
	if line.near.get_status() == connected and line.far.get_status() == connected:
		return true
	line.near.disconnect_from_host()
	line.far.disconnect_from_host()
	return false


func _take(stream: StreamPeerTCP) -> PackedByteArray:
	if stream.get_status() != StreamPeerTCP.STATUS_CONNECTED or stream.get_available_bytes() == 0:
		return PackedByteArray()
	return stream.get_partial_data(stream.get_available_bytes())[1]


func _give(stream: StreamPeerTCP, bytes: PackedByteArray) -> PackedByteArray:
	if bytes.is_empty() or stream.get_status() != StreamPeerTCP.STATUS_CONNECTED:
		return bytes
	return bytes.slice(int(stream.put_partial_data(bytes)[1]))
