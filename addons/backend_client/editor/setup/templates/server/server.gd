extends Node
## The dedicated server: it counts the visits of each player, and keeps the count at the backend.

const MAX_PLAYERS := 8


func _ready() -> void:
	for argument in OS.get_cmdline_user_args():
		if argument.begins_with("--port="):
			$BackendServerRegistration.port = argument.get_slice("=", 1).to_int()
	var peer := ENetMultiplayerPeer.new()
	# More peers than players: one that does not authenticate occupies a place until it times out.
	var error := peer.create_server($BackendServerRegistration.port, MAX_PLAYERS + 64)
	if error != OK:
		push_error("The port cannot be used: %s" % error_string(error))
		return get_tree().quit(1)
	multiplayer.multiplayer_peer = peer
	$BackendPeerAuth.peer_verified.connect(_on_peer_verified)
	$BackendPeerAuth.peer_left.connect(_on_peer_left)
	var result: BackendRegistrationResult = await $BackendServerRegistration.register().wait()
	print(result.error.message if result.failed() else "The server is in the list of rooms.")


func _on_peer_verified(peer_id: int, player: BackendPlayer) -> void:
	var progress: BackendPlayerDocuments = await (
		$BackendPlayerStore.load_player(player.player_id).wait()
	)
	if progress.failed():
		return $BackendPeerAuth.kick(peer_id, progress.error.message)
	var visits: int = progress.get_document("progress").get("visits", 0) + 1
	$BackendPlayerStore.save(player.player_id, "progress", {"visits": visits})
	if peer_id in multiplayer.get_peers():
		show_visits.rpc_id(peer_id, visits)


func _on_peer_left(_peer_id: int, player: BackendPlayer) -> void:
	# Saves what is left. Then another server can load the player.
	$BackendPlayerStore.release_player(player.player_id)


@rpc("authority", "reliable")
func show_visits(_visits: int) -> void:
	pass  # The client's part.
