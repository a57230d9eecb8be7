## One end of a multiplayer game inside the test's process: a subtree with a SceneMultiplayer of its
## own.
##
## Server and client are two branches of the same scene tree, over a real ENet connection on the
## loopback.
extends Node


## The game both ends run. It sits under the same path in each branch, as RPCs need.
class Game:
	extends Node

	## What arrived by RPC: [sender, word].
	var heard: Array[Array] = []

	@rpc("any_peer", "call_remote", "reliable")
	func say(word: String) -> void:
		heard.append([multiplayer.get_remote_sender_id(), word])


var api := SceneMultiplayer.new()
var game := Game.new()
var peer_auth: BackendPeerAuth


func _init() -> void:
	game.name = "Game"
	add_child(game)


func _enter_tree() -> void:
	get_tree().set_multiplayer(api, get_path())


func _exit_tree() -> void:
	hang_up()
	get_tree().set_multiplayer(null, get_path())


## Puts the auth node in; the branch must be in the tree.
func add_auth(auth: BackendPeerAuth) -> void:
	auth.name = "PeerAuth"
	peer_auth = auth
	add_child(auth)


## Listens on a free port of the loopback, for so many peers at a time, and returns it.
func host(most_peers: int = 32) -> int:
	var peer := ENetMultiplayerPeer.new()
	peer.set_bind_ip("127.0.0.1")
	var created := peer.create_server(0, most_peers)
	assert(created == OK)
	api.multiplayer_peer = peer
	return peer.host.get_local_port()


func join(port: int) -> void:
	var peer := ENetMultiplayerPeer.new()
	var created := peer.create_client("127.0.0.1", port)
	assert(created == OK)
	api.multiplayer_peer = peer


func hang_up() -> void:
	if api.multiplayer_peer != null:
		api.multiplayer_peer.close()
	api.multiplayer_peer = null


func is_online() -> bool:
	var peer := api.multiplayer_peer
	return peer != null and peer.get_connection_status() == MultiplayerPeer.CONNECTION_CONNECTED
