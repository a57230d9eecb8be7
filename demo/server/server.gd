extends Node
## The dedicated server: lets verified players in, runs races, keeps their progress, leaves in
## order.

const DOCUMENT := "progress"
const XP_FOR_RACING := 10
const XP_FOR_WINNING := 25

## Player id → progress: {"races", "wins", "xp", "best_ms", "hops"}.
var _progress: Dictionary[String, Dictionary] = {}
var _rematch: Dictionary[int, bool] = {}
var _told_halfway := false

@onready var _registration: BackendServerRegistration = $Registration
@onready var _peer_auth: BackendPeerAuth = $PeerAuth
@onready var _store: BackendPlayerStore = $PlayerStore
@onready var _shutdown: BackendShutdown = $Shutdown
@onready var _race: Race = get_node("/root/Main/Race")


func _ready() -> void:
	# Nothing is drawn on a server: sixty turns of the loop a second are plenty.
	Engine.max_fps = 60
	var port := Arguments.number("port", 7777)
	var max_players := Arguments.number("max-players", 2)
	_race.length = clampi(Arguments.number("race-length", 20), 1, 60)
	_race.started.connect(_on_race_started)
	_race.finished.connect(_on_race_finished)
	_race.hopped.connect(_on_hopped)
	_race.rematch_requested.connect(_on_rematch_requested)
	_peer_auth.peer_verified.connect(_on_peer_verified)
	_peer_auth.peer_refused.connect(_on_peer_refused)
	_peer_auth.peer_left.connect(_on_peer_left)
	_store.saved.connect(_on_saved)
	_store.save_failed.connect(_on_save_failed)
	_store.handover_requested.connect(_on_handover_requested)
	_store.collect_saves.connect(_save_everyone)
	_shutdown.draining.connect(_on_draining)
	_shutdown.collect_saves.connect(_save_everyone)
	_shutdown.completed.connect(_on_shutdown_completed)

	var peer := ENetMultiplayerPeer.new()
	var opened := peer.create_server(port, max_players + 64)
	if opened != OK:
		EventLog.emit("failed", {"code": "port", "message": error_string(opened)})
		get_tree().quit(1)
		return
	multiplayer.multiplayer_peer = peer
	# Players have nothing to say to each other, so the server does not pass packets on between
	# them.
	(multiplayer as SceneMultiplayer).server_relay = false
	EventLog.emit("server_started", {"port": port})

	_registration.room_assigned.connect(_on_room_assigned)
	_registration.server_name = Arguments.text("name", "Frog Pond")
	_registration.port = port
	_registration.max_players = max_players
	var registered: BackendRegistrationResult = await _registration.register().wait()
	if registered.failed():
		EventLog.emit(
			"failed", {"code": registered.error.code, "message": registered.error.message}
		)
		get_tree().quit(1)
		return
	EventLog.emit("registered", {"server_id": registered.server_id})


## The backend has started this server for a room that a player has created.
func _on_room_assigned(options: BackendRoomOptions) -> void:
	EventLog.emit("room_assigned", {"name": options.room_name})


func _on_peer_verified(peer_id: int, player: BackendPlayer) -> void:
	EventLog.emit("player_verified", {"player": player.player_id, "name": player.display_name})
	var loaded: BackendPlayerDocuments = await _store.load_player(player.player_id).wait()
	if loaded.failed():
		_peer_auth.kick(peer_id, "your progress could not be loaded: %s" % loaded.error.message)
		return
	var progress: Dictionary = {"races": 0, "wins": 0, "xp": 0, "best_ms": 0, "hops": 0}
	progress.merge(loaded.get_document(DOCUMENT), true)
	_progress[player.player_id] = progress
	EventLog.emit(
		"progress_loaded", {"player": player.player_id, "wins": progress.wins, "xp": progress.xp}
	)
	# Gone again while the progress was on its way.
	if _peer_auth.get_player(peer_id) == null:
		if _peer_auth.get_peer_id(player.player_id) == 0:
			_progress.erase(player.player_id)
			_store.release_player(player.player_id)
		return
	_race.add_racer(peer_id, player.display_name)
	if _race.get_racers().size() == 2 and _race.stage != Race.Stage.RUNNING:
		_race.begin()


func _on_peer_refused(_peer_id: int, error: BackendError) -> void:
	EventLog.emit("player_refused", {"code": error.code})


func _on_peer_left(peer_id: int, player: BackendPlayer) -> void:
	EventLog.emit("player_left", {"player": player.player_id})
	_race.remove_racer(peer_id)
	_rematch.erase(peer_id)
	if _race.stage == Race.Stage.RUNNING or _race.stage == Race.Stage.COUNTDOWN:
		# Leaving forfeits: whoever stays has won.
		var others := _race.get_racers().filter(
			func(frog: Frog) -> bool: return frog.peer_id != peer_id
		)
		_race.finish(
			others[0].peer_id if _race.stage == Race.Stage.RUNNING and not others.is_empty() else 0
		)
	if _race.get_racers().is_empty():
		_race.wait_for_players()
	# The same player may be back already, under another peer.
	if _peer_auth.get_peer_id(player.player_id) == 0 and _progress.has(player.player_id):
		_store.save(player.player_id, DOCUMENT, _progress[player.player_id])
		_progress.erase(player.player_id)
		await _store.release_player(player.player_id).wait()


func _on_race_started() -> void:
	_rematch.clear()
	_told_halfway = false
	EventLog.emit("race_started", {"players": _race.get_racers().size()})


## Hops are saved with the next result, or when the player or the server leaves.
func _on_hopped(peer_id: int) -> void:
	var player := _peer_auth.get_player(peer_id)
	if player == null or not _progress.has(player.player_id):
		return
	_progress[player.player_id].hops += 1
	if not _told_halfway and _race.get_frog(peer_id).motion.pads * 2 >= _race.length:
		_told_halfway = true
		EventLog.emit("halfway", {"player": player.player_id})


func _on_race_finished(winner_peer: int) -> void:
	var winner := _peer_auth.get_player(winner_peer)
	EventLog.emit("race_finished", {"winner": winner.display_name if winner != null else "nobody"})
	if winner == null:
		return
	for frog: Frog in _race.get_racers():
		var player := _peer_auth.get_player(frog.peer_id)
		if player == null or not _progress.has(player.player_id):
			continue
		var progress := _progress[player.player_id]
		progress.races += 1
		progress.xp += XP_FOR_RACING
		if frog.peer_id == winner_peer:
			progress.wins += 1
			progress.xp += XP_FOR_WINNING
			progress.best_ms = (
				_race.elapsed_ms
				if progress.best_ms == 0
				else mini(progress.best_ms, _race.elapsed_ms)
			)
		_store.save(player.player_id, DOCUMENT, progress)
		_store.save_now(player.player_id)


func _on_rematch_requested(peer_id: int) -> void:
	if _race.stage == Race.Stage.FINISHED and _peer_auth.get_player(peer_id) != null:
		_rematch[peer_id] = true
		if _rematch.size() == 2 and _race.get_racers().size() == 2:
			_race.begin()


func _on_saved(player_id: String, _key: String, version: int) -> void:
	EventLog.emit("saved", {"player": player_id, "version": version})
	var peer_id := _peer_auth.get_peer_id(player_id)
	if peer_id != 0:
		_race.tell_progress_saved.rpc_id(peer_id)


func _on_save_failed(player_id: String, _key: String, error: BackendError) -> void:
	EventLog.emit("save_failed", {"player": player_id, "code": error.code})


## The player has joined another server, which waits for the progress. What is saved here is the
## last that this server has to say.
func _on_handover_requested(player_id: String) -> void:
	if _progress.has(player_id):
		_store.save(player_id, DOCUMENT, _progress[player_id])
		_progress.erase(player_id)
	var peer_id := _peer_auth.get_peer_id(player_id)
	if peer_id != 0:
		_peer_auth.kick(peer_id, "you have joined another server")


func _save_everyone() -> void:
	for player_id: String in _progress:
		_store.save(player_id, DOCUMENT, _progress[player_id])


func _on_draining(reason: String, _deadline_seconds: float) -> void:
	EventLog.emit("draining", {"reason": reason})


func _on_shutdown_completed(summary: BackendShutdownSummary) -> void:
	EventLog.emit("flushed", {"saved": summary.saved, "unsaved": summary.unsaved})
	if summary.deregistered:
		EventLog.emit("deregistered")
	EventLog.emit("exiting")
