class_name Frog
extends Node2D
## One racer. On the server it is moved by the rules; on its player's client it is predicted and
## corrected; on the
## other client it follows what the synchronizer brings.

const PAD_START := 150.0
const TRACK := 980.0
const LANES: Array[float] = [350.0, 545.0]
const ARC := 66.0

@export var peer_id := 0
@export var player_name := ""
@export var lane := 0
@export var length := 20
## The server's word, replicated.
@export var pads := 0
@export var phase := FrogMotion.Phase.SITTING
## Last input the server has judged, and whether it was a good hop.
@export var judged := 0
@export var judged_good := true

var motion := FrogMotion.new()

var _sent := 0
## Input number → whether it was predicted to be a good hop.
var _predicted: Dictionary[int, bool] = {}

@onready var _name_label: Label = $NameLabel


func _ready() -> void:
	_name_label.text = player_name
	_name_label.visible = not multiplayer.is_server()
	z_index = lane


func is_mine() -> bool:
	return multiplayer.has_multiplayer_peer() and peer_id == multiplayer.get_unique_id()


## The player's input: shown at once, judged by the server.
func hop() -> void:
	_sent += 1
	_predicted[_sent] = motion.hop()
	_submit_hop.rpc_id(1, _sent)


@rpc("any_peer", "call_remote", "reliable")
func _submit_hop(number: int) -> void:
	var race: Race = get_parent().get_parent()
	if not multiplayer.is_server() or multiplayer.get_remote_sender_id() != peer_id:
		return
	# Numbers only grow: a repeated or reordered input is not a second hop.
	if number <= judged or race.stage != Race.Stage.RUNNING:
		return
	judged_good = motion.hop()
	judged = number
	if judged_good:
		race.hopped.emit(peer_id)


func _physics_process(delta: float) -> void:
	if multiplayer.has_multiplayer_peer() and multiplayer.is_server():
		motion.advance(delta)
		pads = motion.pads
		phase = motion.phase
		return
	if is_mine():
		_reconcile()
	else:
		_follow()
	motion.advance(delta)


func _process(_delta: float) -> void:
	var at := minf(motion.progress(), length)
	var airborne := motion.phase == FrogMotion.Phase.HOPPING
	var height := sin(PI * motion.elapsed / FrogMotion.HOP_SECONDS) * ARC if airborne else 0.0
	position = Vector2(PAD_START + at * TRACK / length, LANES[lane % LANES.size()] - height)
	queue_redraw()


## Where the server judged an input as predicted, the prediction stands; where not, the server's
## word replaces it.
func _reconcile() -> void:
	var wrong := false
	for number: int in _predicted.keys():
		if number < judged:
			_predicted.erase(number)
		elif number == judged:
			wrong = _predicted[number] != judged_good
			_predicted.erase(number)
	var settled := _predicted.is_empty() and phase == FrogMotion.Phase.SITTING
	var adrift := settled and motion.phase == FrogMotion.Phase.SITTING and motion.pads != pads
	if wrong or adrift or pads > motion.pads + 1:
		_adopt()


## The opponent: begins the same movement when the server says so, and never lags more than one hop
## behind.
func _follow() -> void:
	if pads != motion.pads and phase != FrogMotion.Phase.SITTING or absi(pads - motion.pads) > 1:
		motion.pads = pads
	if (
		phase != motion.phase
		and not (phase == FrogMotion.Phase.SITTING and motion.phase == FrogMotion.Phase.HOPPING)
	):
		_adopt()


func _adopt() -> void:
	motion.pads = pads
	motion.phase = phase
	motion.elapsed = 0.0


func reset(to_length: int) -> void:
	motion = FrogMotion.new()
	length = to_length
	judged_good = true


func _draw() -> void:
	FrogPainter.paint(self, lane, motion)
