class_name Race
extends Node2D
## The race as both ends see it. The server runs it; clients follow through the synchronizer and the
## spawner.

## Server: the race begins, or has a winner (0 when nobody finished).
signal started
signal finished(winner_peer: int)
## Both ends: the stage has changed.
signal stage_changed(stage: Stage)
## Server: a frog has hopped from one pad towards the next.
signal hopped(peer_id: int)
## Server: a player asks for another race.
signal rematch_requested(peer_id: int)
## Client: the server has committed this player's progress; it can be read back.
signal progress_saved

enum Stage { WAITING, COUNTDOWN, RUNNING, FINISHED }

const FROG := preload("res://race/frog.tscn")
const COUNTDOWN_SECONDS := 3.0

## Replicated last: whoever hears of a new stage finds its winner and countdown in place.
@export var stage := Stage.WAITING:
	set(value):
		if stage != value:
			stage = value
			stage_changed.emit(value)
@export var countdown := 0.0
@export var winner := 0
@export var length := 20:
	set(value):
		length = value
		if is_node_ready():
			_pond.length = value
@export var elapsed_ms := 0

@onready var frogs: Node2D = $Frogs
@onready var _spawner: MultiplayerSpawner = $Spawner
@onready var _pond: Pond = $Pond


func _ready() -> void:
	_pond.length = length
	_spawner.spawn_function = _make_frog
	stage_changed.connect(_on_stage_changed)


## A client's frogs go back to the start with the countdown, like the server's.
func _on_stage_changed(next: Stage) -> void:
	if next == Stage.COUNTDOWN:
		for frog: Frog in get_racers():
			frog.reset(length)


func _make_frog(data: Dictionary) -> Node:
	var frog: Frog = FROG.instantiate()
	frog.name = str(data.peer_id)
	frog.peer_id = data.peer_id
	frog.player_name = data.player_name
	frog.lane = data.lane
	frog.length = data.length
	return frog


func get_frog(peer_id: int) -> Frog:
	return frogs.get_node_or_null(str(peer_id))


func get_racers() -> Array[Frog]:
	var racers: Array[Frog] = []
	for frog: Frog in frogs.get_children():
		if not frog.is_queued_for_deletion():
			racers.append(frog)
	return racers


# --- server ---


func add_racer(peer_id: int, player_name: String) -> void:
	var taken := get_racers().map(func(frog: Frog) -> int: return frog.lane)
	var lane := 0 if not taken.has(0) else 1
	_spawner.spawn({"peer_id": peer_id, "player_name": player_name, "lane": lane, "length": length})


func remove_racer(peer_id: int) -> void:
	var frog := get_frog(peer_id)
	if frog != null:
		frog.queue_free()


func begin() -> void:
	winner = 0
	elapsed_ms = 0
	countdown = COUNTDOWN_SECONDS
	stage = Stage.COUNTDOWN


## Ends the race: someone won, or the others left.
func finish(winner_peer: int) -> void:
	winner = winner_peer
	stage = Stage.FINISHED
	finished.emit(winner_peer)


func wait_for_players() -> void:
	winner = 0
	stage = Stage.WAITING


func _physics_process(delta: float) -> void:
	if not multiplayer.has_multiplayer_peer() or not multiplayer.is_server():
		return
	if stage == Stage.COUNTDOWN:
		countdown -= delta
		if countdown <= 0.0:
			stage = Stage.RUNNING
			started.emit()
	elif stage == Stage.RUNNING:
		elapsed_ms += roundi(delta * 1000.0)
		for frog: Frog in get_racers():
			if frog.motion.pads >= length:
				finish(frog.peer_id)
				return


@rpc("any_peer", "call_remote", "reliable")
func request_rematch() -> void:
	if multiplayer.is_server():
		rematch_requested.emit(multiplayer.get_remote_sender_id())


# --- client ---


func get_own_frog() -> Frog:
	return get_frog(multiplayer.get_unique_id()) if multiplayer.has_multiplayer_peer() else null


@rpc("authority", "call_remote", "reliable")
func tell_progress_saved() -> void:
	progress_saved.emit()
