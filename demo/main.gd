extends Node
## Picks the mode: a dedicated server, or a player's client. Both share the race scene under the
## same path, so that
## spawns, synchronisation and RPCs find each other.


func _ready() -> void:
	var is_server := Arguments.is_server()
	EventLog.who = "server" if is_server else Arguments.text("name", "client")
	EventLog.enabled = (
		is_server or Arguments.has("bot") or Arguments.has("autoplay") or Arguments.has("narrate")
	)
	# Loaded by name: the client's export does not contain the server.
	var scene: PackedScene = load(
		"res://server/server.tscn" if is_server else "res://client/client.tscn"
	)
	add_child(scene.instantiate())
