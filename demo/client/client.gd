class_name Client
extends Node
## A player's client: logs in, finds a room, joins it with a ticket, races, and shows what is kept.
## The screens and
## the bot both call these methods and listen to these signals.

signal joined
signal left(reason: String)
signal progress_read(progress: Dictionary)

var display_name := ""
## By which others join the room, if it is not listed.
var invite_code := ""

var _room_id := ""

@onready var session: BackendSession = $Session
@onready var rooms: BackendRooms = $Rooms
@onready var race: Race = get_node("/root/Main/Race")
@onready var _login_form: BackendLoginForm = $Screens/Login/Center/LoginForm
@onready var _peer_auth: BackendPeerAuth = $PeerAuth


func _ready() -> void:
	session.logged_in.connect(_on_logged_in)
	_peer_auth.authenticated.connect(_on_authenticated)
	_peer_auth.refused.connect(
		func(error: BackendError) -> void: _leave_with(error.code, error.message)
	)
	multiplayer.connection_failed.connect(
		func() -> void: _leave_with("connection_failed", "nobody answers there")
	)
	multiplayer.server_disconnected.connect(
		func() -> void: _leave_with("disconnected", "the server closed the connection")
	)
	race.progress_saved.connect(read_progress)
	race.stage_changed.connect(_on_stage_changed)
	race.hide()
	if Arguments.has("bot") or Arguments.has("autoplay"):
		add_child(preload("res://client/bot.gd").new())
	else:
		_login_form.restore()


func _on_logged_in(player_id: String) -> void:
	display_name = session.display_name
	EventLog.emit("logged_in", {"player": player_id, "name": display_name})


## Gets a ticket for the room and connects. Ends in [signal joined] or [signal left].
func join(room_id: String) -> void:
	var ticket: BackendJoinTicket = await rooms.request_ticket(room_id).wait()
	if ticket.failed():
		_leave_with(ticket.error.code, ticket.error.message)
		return
	connect_with(ticket)


## Joins the room of the last ticket again.
func join_again() -> void:
	join(_room_id)


## Connects to the room that a ticket is for. Ends in [signal joined] or [signal left].
func connect_with(ticket: BackendJoinTicket) -> void:
	_room_id = ticket.room_id
	invite_code = ticket.invite_code
	EventLog.emit("ticket_received", {"room": ticket.room_id})
	_peer_auth.use_ticket(ticket)
	var peer := ENetMultiplayerPeer.new()
	var opened := peer.create_client(ticket.address, ticket.port)
	if opened != OK:
		_leave_with("connection_failed", error_string(opened))
		return
	multiplayer.multiplayer_peer = peer
	EventLog.emit("connected", {"peer": multiplayer.get_unique_id()})


func leave() -> void:
	_disconnect()
	EventLog.emit("left")
	left.emit("")


func read_progress() -> void:
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	if documents.failed():
		return
	var progress := documents.get_document("progress")
	if progress.is_empty():
		return
	EventLog.emit(
		"progress",
		{
			"wins": progress.wins,
			"xp": progress.xp,
			"races": progress.races,
			"hops": progress.get("hops", 0)
		}
	)
	progress_read.emit(progress)


func _on_authenticated() -> void:
	EventLog.emit("verified")
	race.show()
	joined.emit()


func _on_stage_changed(stage: Race.Stage) -> void:
	match stage:
		Race.Stage.RUNNING:
			EventLog.emit("race_started")
		Race.Stage.FINISHED:
			var own := race.get_own_frog()
			var place := 1 if own != null and race.winner == own.peer_id else 2
			var winner := race.get_frog(race.winner)
			EventLog.emit(
				"race_finished",
				{"place": place, "winner": winner.player_name if winner != null else "nobody"}
			)


func _leave_with(code: String, message: String) -> void:
	if multiplayer.multiplayer_peer is OfflineMultiplayerPeer and code == "disconnected":
		return
	_disconnect()
	EventLog.emit("failed", {"code": code, "message": message})
	left.emit(message)


func _disconnect() -> void:
	race.hide()
	if multiplayer.multiplayer_peer != null:
		multiplayer.multiplayer_peer.close()
	multiplayer.multiplayer_peer = OfflineMultiplayerPeer.new()
	for frog: Frog in race.get_racers():
		frog.queue_free()
	race.wait_for_players()
