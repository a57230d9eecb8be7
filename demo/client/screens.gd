extends CanvasLayer
## Shows one screen at a time: login, server browser, race, results.

@onready var _client: Client = get_parent()
@onready var _login: Control = $Login
@onready var _browser: Control = $Browser
@onready var _hud: Control = $Hud
@onready var _results: Control = $Results
@onready var _notice: Label = $Notice
@onready var _server_browser: BackendServerBrowser = $Browser/Center/ServerBrowser
@onready var _connection_lost: BackendConnectionLost = $Lost/ConnectionLost
@onready var _countdown: Label = $Hud/Countdown
@onready var _hint: Label = $Hud/Hint
@onready var _outcome: Label = $Results/Center/Panel/Rows/Outcome
@onready var _numbers: Label = $Results/Center/Panel/Rows/Numbers
@onready var _rematch: Button = $Results/Center/Panel/Rows/Buttons/Rematch
@onready var _leave: Button = $Results/Center/Panel/Rows/Buttons/Leave


func _ready() -> void:
	# Children are ready before their parent, and the client's nodes are the parent's to give.
	await _client.ready
	_client.session.logged_in.connect(func(_player_id: String) -> void: _show_browser(""))
	_client.joined.connect(_show.bind(_hud))
	_client.left.connect(_on_left)
	_client.progress_read.connect(_on_progress_read)
	_client.race.stage_changed.connect(_on_stage_changed)
	_server_browser.ticket_received.connect(_client.connect_with)
	_connection_lost.reconnect_requested.connect(func(_attempt: int) -> void: _client.join_again())
	_connection_lost.menu_requested.connect(_on_menu_requested)
	_rematch.pressed.connect(_on_rematch_pressed)
	_leave.pressed.connect(_client.leave)
	_show(_login)


func _show(screen: Control) -> void:
	for other: Control in [_login, _browser, _hud, _results]:
		other.visible = other == screen
	_notice.text = ""


func _show_browser(notice: String) -> void:
	if not _client.session.is_logged_in():
		return
	var room := BackendRoomOptions.new()
	room.room_name = "Pond of %s" % _client.display_name
	room.max_players = 2
	_server_browser.create_options = room
	_show(_browser)
	_notice.text = notice
	_server_browser.refresh()


func _on_left(reason: String) -> void:
	# While the overlay is open it says why, and asks for the next attempt.
	if _connection_lost.state == BackendConnectionLost.State.CLOSED:
		_show_browser(reason)
	elif _connection_lost.state == BackendConnectionLost.State.RECONNECTING:
		_connection_lost.report_failure(reason)


func _on_menu_requested() -> void:
	if _client.session.is_logged_in():
		_show_browser("")
	else:
		_show(_login)


func _on_stage_changed(stage: Race.Stage) -> void:
	if not _client.race.visible:
		return
	if stage == Race.Stage.FINISHED:
		var own := _client.race.get_own_frog()
		var won := own != null and own.peer_id == _client.race.winner
		_outcome.text = "You won!" if won else "Second place"
		_numbers.text = "saving …"
		_rematch.disabled = false
		_rematch.text = "Race again"
		_show(_results)
	else:
		_show(_hud)


func _on_progress_read(progress: Dictionary) -> void:
	_numbers.text = "%d wins in %d races\n%d XP" % [progress.wins, progress.races, progress.xp]
	if progress.best_ms > 0:
		_numbers.text += "\nbest %.2f s" % (progress.best_ms / 1000.0)


func _on_rematch_pressed() -> void:
	_rematch.disabled = true
	_rematch.text = "Waiting for the other frog …"
	_client.race.request_rematch.rpc_id(1)


func _process(_delta: float) -> void:
	if not _hud.visible:
		return
	match _client.race.stage:
		Race.Stage.WAITING:
			_countdown.text = ""
			_hint.text = "Waiting for a second frog …"
			if not _client.invite_code.is_empty():
				_hint.text += "\nInvite code: " + _client.invite_code
		Race.Stage.COUNTDOWN:
			_countdown.text = str(ceili(_client.race.countdown))
			_hint.text = "Space or click to hop. Wait until you have landed!"
		Race.Stage.RUNNING:
			_countdown.text = "Hop!" if _client.race.elapsed_ms < 700 else ""
			_hint.text = _standing()


func _standing() -> String:
	var parts: PackedStringArray = []
	for frog: Frog in _client.race.get_racers():
		parts.append(
			"%s  %d / %d" % [frog.player_name, mini(frog.motion.pads, frog.length), frog.length]
		)
	return "      ".join(parts)


func _unhandled_input(event: InputEvent) -> void:
	if event.is_action_pressed("hop") and _client.race.stage == Race.Stage.RUNNING:
		var frog := _client.race.get_own_frog()
		if frog != null:
			frog.hop()
			get_viewport().set_input_as_handled()
