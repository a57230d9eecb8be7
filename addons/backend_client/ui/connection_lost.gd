class_name BackendConnectionLost
extends BackendScenePanel
## An overlay that says that the connection to the game server or the session is lost, with a button
## to connect again and one to leave for the menu.
##
## It opens by itself when [signal MultiplayerAPI.server_disconnected] is emitted or when
## [member session] ends, and closes when the peer is connected. After
## [signal reconnect_requested] the game connects as it did before, for example with a new join
## ticket; if that fails before there is a peer, it calls [method report_failure]. It takes its
## looks from the theme of the game.

## The game should connect again.
signal reconnect_requested(attempt: int)
## The player wants to go back to the menu. The overlay has closed.
signal menu_requested

## What is lost.
enum State { CLOSED, WAITING, RECONNECTING, GIVEN_UP, SESSION_ENDED }

const CONTENT := preload("res://addons/backend_client/ui/connection_lost_content.tscn")

const _TITLES: Dictionary[State, String] = {
	State.WAITING: "Connection lost",
	State.RECONNECTING: "Reconnecting …",
	State.GIVEN_UP: "Connection lost",
	State.SESSION_ENDED: "You have been logged out",
}

## If set, the overlay opens when this session has expired, was revoked or banned.
@export var session: BackendSession
## Seconds before each automatic attempt. When they are used up, only the button connects.
@export var retry_delays := PackedFloat32Array([2.0, 4.0, 8.0, 15.0, 30.0])

## What is lost now.
var state := State.CLOSED
## Attempts since the connection was lost.
var attempt := 0

var _seconds_left := 0.0
var _shown_seconds := -1
var _focused_before: Control

@onready var _title: Label = _content.get_node("%Title")
@onready var _message: Label = _content.get_node("%Message")
@onready var _countdown: Label = _content.get_node("%Countdown")
@onready var _progress: ProgressBar = _content.get_node("%Progress")
@onready var _retry: Button = _content.get_node("%Retry")
@onready var _menu: Button = _content.get_node("%Menu")


func _get_content() -> PackedScene:
	return CONTENT


func _ready() -> void:
	_retry.pressed.connect(reconnect)
	_menu.pressed.connect(_leave)
	multiplayer.server_disconnected.connect(_on_server_disconnected)
	multiplayer.connected_to_server.connect(close)
	multiplayer.connection_failed.connect(_on_connection_failed)
	if session != null:
		for ended: Signal in [session.expired, session.revoked, session.banned]:
			ended.connect(_on_session_ended)
	if state == State.CLOSED:
		hide()


func _process(delta: float) -> void:
	if state != State.WAITING:
		return
	_seconds_left -= delta
	if _seconds_left <= 0.0:
		reconnect()
	else:
		_show_countdown()


func _unhandled_key_input(event: InputEvent) -> void:
	if state != State.CLOSED and event.is_action_pressed("ui_cancel"):
		get_viewport().set_input_as_handled()
		_leave()


## Opens the overlay: the connection was lost, or could not be made, for the reason
## [param message].
func report_failure(message: String) -> void:
	_message.text = message
	if attempt < retry_delays.size():
		_seconds_left = retry_delays[attempt]
		_enter(State.WAITING)
	else:
		_enter(State.GIVEN_UP)


## Asks the game to connect now.
func reconnect() -> void:
	if state not in [State.WAITING, State.GIVEN_UP]:
		return
	attempt += 1
	_enter(State.RECONNECTING)
	reconnect_requested.emit(attempt)


## Closes the overlay: the connection is there again, or no longer wanted.
func close() -> void:
	attempt = 0
	_enter(State.CLOSED)


func _enter(wanted: State) -> void:
	var was_closed := state == State.CLOSED
	state = wanted
	_shown_seconds = -1
	visible = state != State.CLOSED
	if state == State.CLOSED:
		if is_instance_valid(_focused_before) and _focused_before.is_visible_in_tree():
			_focused_before.grab_focus()
		_focused_before = null
		return
	if was_closed:
		_focused_before = get_viewport().gui_get_focus_owner()
	_title.text = _TITLES[state]
	_message.visible = not _message.text.is_empty() and state != State.RECONNECTING
	_retry.visible = state in [State.WAITING, State.GIVEN_UP]
	_progress.visible = state == State.RECONNECTING
	_countdown.visible = state == State.WAITING
	if state == State.WAITING:
		_show_countdown()
	(_retry if _retry.visible else _menu).grab_focus()


func _show_countdown() -> void:
	var seconds := maxi(ceili(_seconds_left), 1)
	if seconds == _shown_seconds:
		return
	_shown_seconds = seconds
	_countdown.text = (
		tr_n("Next attempt in %d second.", "Next attempt in %d seconds.", seconds) % seconds
	)


func _notification(what: int) -> void:
	if what == NOTIFICATION_TRANSLATION_CHANGED and is_node_ready() and state == State.WAITING:
		_shown_seconds = -1
		_show_countdown()


func _leave() -> void:
	close()
	menu_requested.emit()


func _on_server_disconnected() -> void:
	if state != State.SESSION_ENDED:
		report_failure("The server has closed the connection.")


func _on_connection_failed() -> void:
	if state == State.RECONNECTING:
		report_failure("The server cannot be reached.")


func _on_session_ended(error: BackendError) -> void:
	_message.text = BackendUiErrors.text_of(error)
	_enter(State.SESSION_ENDED)
