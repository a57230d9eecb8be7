@tool
extends RefCounted
## Reads what the panel's games send to their debugger.
##
## The editor's own debugger takes five games at most, and drops them when the project is run by F5.
## This one takes all, and reads the states only: no game stops at a breakpoint or an error.

signal reported(state: Dictionary)

const ADDRESS := "127.0.0.1"
const MESSAGE := "backend_client:state"
## With its length, a megabyte. The buffer of each game has twice that.
const MAX_MESSAGE_BYTES := 1024 * 1024 - 4
## Messages of one game that one call reads.
const MAX_READ := 200

var _server := TCPServer.new()
var _peers: Array[PacketPeerStream] = []


## URL for [code]--remote-debug[/code]; empty if no port can be listened on.
func url() -> String:
	if not _server.is_listening() and _server.listen(0, ADDRESS) != OK:
		return ""
	return "tcp://%s:%d" % [ADDRESS, _server.get_local_port()]


## Reads what is there. Call it once a frame.
func poll() -> void:
	while _server.is_connection_available():
		var peer := PacketPeerStream.new()
		peer.input_buffer_max_size = MAX_MESSAGE_BYTES
		peer.stream_peer = _server.take_connection()
		_peers.append(peer)
	for peer in _peers:
		_read(peer)
	_peers = _peers.filter(
		func(peer: PacketPeerStream) -> bool:
			var stream: StreamPeerTCP = peer.stream_peer
			return stream.get_status() == StreamPeerTCP.STATUS_CONNECTED
	)


func close() -> void:
	_peers.clear()
	_server.stop()


func _read(peer: PacketPeerStream) -> void:
	var stream: StreamPeerTCP = peer.stream_peer
	stream.poll()
	for _message in MAX_READ:
		if peer.get_available_packet_count() == 0:
			return
		var message: Variant = peer.get_var()
		# Name, thread, data.
		if not message is Array or (message as Array).size() != 3:
			stream.disconnect_from_host()
			return
		if message[0] == MESSAGE:
			_report(message[2])
		elif message[0] == "debug_enter":
			peer.put_var(["continue", message[1], []])


func _report(data: Variant) -> void:
	if data is Array and (data as Array).size() == 1 and data[0] is Dictionary:
		reported.emit(data[0])
