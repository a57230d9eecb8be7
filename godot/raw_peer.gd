## A connection to a game server that speaks ENet and nothing else, and so chooses what Godot's own
## client does not let one choose: its peer id, where it comes from, and whether it ever says
## anything.
extends Node

var peer: ENetPacketPeer
## Packets that came.
var received: Array[PackedByteArray] = []
var _connection := ENetConnection.new()


func _process(_delta: float) -> void:
	if peer == null:
		return
	# Bounded: a service call gives one event.
	for _event in 32:
		var event: Array = _connection.service()
		if event[0] == ENetConnection.EVENT_RECEIVE:
			received.append(peer.get_packet())
		if event[0] == ENetConnection.EVENT_NONE or event[0] == ENetConnection.EVENT_ERROR:
			return


func _exit_tree() -> void:
	leave()


## Connects as `peer_id`, which the engine's server reads from the connection's data.
func join(port: int, peer_id: int, from: String = "127.0.0.1") -> void:
	var created := _connection.create_host_bound(from, 0, 1)
	assert(created == OK)
	peer = _connection.connect_to_host("127.0.0.1", port, 4, peer_id)
	assert(peer != null)


## Sends bytes as they are, on the channel of reliable packets.
func send(bytes: PackedByteArray) -> void:
	peer.send(0, bytes, ENetPacketPeer.FLAG_RELIABLE)
	_connection.flush()


## Goes without a word.
func leave() -> void:
	if peer != null:
		peer = null
		_connection.destroy()


func is_online() -> bool:
	return peer != null and peer.get_state() == ENetPacketPeer.STATE_CONNECTED


func is_over() -> bool:
	return peer == null or peer.get_state() == ENetPacketPeer.STATE_DISCONNECTED
