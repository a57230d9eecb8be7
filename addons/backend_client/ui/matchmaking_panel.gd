class_name BackendMatchmakingPanel
extends BackendScenePanel
## Finds a match for the player: a button to search, the wait, a proposed match with accept and
## decline, and the way to its room.
##
## Assign [member matchmaker]. After [signal match_ready] the game connects with the ticket of the
## match, and frees or hides the panel. It takes its looks from the theme of the game.

## The match has a room; [code]found.ticket[/code] is the ticket to it.
signal match_ready(found: BackendMatch)
## The player has cancelled the search or declined the match.
signal search_cancelled

## What is shown.
enum State { IDLE, PARTY, SEARCHING, PROPOSED, ACCEPTED, PLACING, READY, FAILED }

const CONTENT := preload("res://addons/backend_client/ui/matchmaking_panel_content.tscn")

const _TITLES: Dictionary[State, String] = {
	State.IDLE: "Play with others",
	State.PARTY: "Waiting for your party …",
	State.SEARCHING: "Searching for a match …",
	State.PROPOSED: "Match found",
	State.ACCEPTED: "Waiting for the others …",
	State.PLACING: "Starting the match …",
	State.READY: "The match is ready",
	State.FAILED: "No match",
}
const _MESSAGES: Dictionary[State, String] = {
	State.IDLE: "Players who fit are looked for.",
	State.PARTY: "The search starts when all have joined.",
	State.PROPOSED: "Do you want to play?",
	State.PLACING: "A server is being prepared.",
	State.READY: "Connecting …",
}
const _FIRST_BUTTON: Dictionary[State, String] = {
	State.IDLE: "Find a match",
	State.PARTY: "Copy invitation",
	State.PROPOSED: "Accept",
	State.FAILED: "Search again",
}
const _SECOND_BUTTON: Dictionary[State, String] = {
	State.PARTY: "Cancel",
	State.SEARCHING: "Cancel",
	State.PROPOSED: "Decline",
}
const _STATES: Dictionary[int, State] = {
	BackendMatchmaker.STATUS_IDLE: State.IDLE,
	BackendMatchmaker.STATUS_PARTY: State.PARTY,
	BackendMatchmaker.STATUS_SEARCHING: State.SEARCHING,
	BackendMatchmaker.STATUS_PROPOSED: State.PROPOSED,
	BackendMatchmaker.STATUS_ACCEPTED: State.ACCEPTED,
	BackendMatchmaker.STATUS_PLACING: State.PLACING,
	BackendMatchmaker.STATUS_READY: State.READY,
	BackendMatchmaker.STATUS_FAILED: State.FAILED,
}

## The node that searches. Set it before the panel enters the tree.
@export var matchmaker: BackendMatchmaker
## Attributes, latencies and size of the party.
@export var options: BackendMatchOptions

## What is shown now.
var state := State.IDLE

var _note := ""
var _answering := false
# Whether the end of the search is still to be shown.
var _awaiting := false
var _proposed_seconds := 0.0
var _shown_seconds := -1
# The state whose first button was focused.
var _focused_state := State.READY

@onready var _title: Label = _content.get_node("%Title")
@onready var _message: Label = _content.get_node("%Message")
@onready var _problem: Label = _content.get_node("%Problem")
@onready var _count: Label = _content.get_node("%Count")
@onready var _wait: Label = _content.get_node("%Wait")
@onready var _progress: ProgressBar = _content.get_node("%Progress")
@onready var _buttons: Container = _content.get_node("%Buttons")
@onready var _first: Button = _content.get_node("%First")
@onready var _second: Button = _content.get_node("%Second")


func _get_content() -> PackedScene:
	return CONTENT


func _ready() -> void:
	_first.pressed.connect(_on_first_pressed)
	_second.pressed.connect(_on_second_pressed)
	if matchmaker != null:
		matchmaker.status_changed.connect(_on_status_changed)
		matchmaker.match_proposed.connect(_on_match_proposed)
		matchmaker.match_ready.connect(func(found: BackendMatch) -> void: match_ready.emit(found))
		matchmaker.search_failed.connect(_on_search_failed)
		matchmaker.players_changed.connect(_refresh)
		matchmaker.estimated_wait_changed.connect(_refresh.unbind(1))
		matchmaker.connection_changed.connect(_refresh.unbind(1))
		state = _STATES.get(matchmaker.status, State.IDLE)
	_refresh()


func _process(_delta: float) -> void:
	if matchmaker == null or state in [State.IDLE, State.READY, State.FAILED]:
		return
	var seconds := _seconds()
	if state == State.PROPOSED and _proposed_seconds > 0.0:
		_progress.value = matchmaker.answer_seconds / _proposed_seconds
	if seconds != _shown_seconds:
		_shown_seconds = seconds
		_wait.text = _time_text(seconds)


func _unhandled_key_input(event: InputEvent) -> void:
	var may_press := is_visible_in_tree() and _second.visible and not _second.disabled
	if may_press and event.is_action_pressed("ui_cancel"):
		get_viewport().set_input_as_handled()
		_on_second_pressed()


## Starts the search.
func search() -> void:
	if matchmaker == null or matchmaker.is_searching():
		return
	_note = ""
	_follow(matchmaker.find_match(options))


## Joins the party of another player, whose invitation is [param ticket_id].
func join_party(ticket_id: String) -> void:
	if matchmaker == null or matchmaker.is_searching():
		return
	_note = ""
	_follow(matchmaker.join_party(ticket_id, options))


## Whether the backend is asked for something that the player waits for.
func is_busy() -> bool:
	return _answering


# Errors before there is a search, such as that nobody is logged in, are no signals of the node.
func _follow(request: BackendRequest) -> void:
	_awaiting = true
	var found: BackendMatch = await request.wait()
	if is_inside_tree() and found.failed() and _awaiting:
		_on_search_failed(found.error)


func _on_first_pressed() -> void:
	match state:
		State.IDLE, State.FAILED:
			search()
		State.PARTY:
			DisplayServer.clipboard_set(matchmaker.ticket_id)
		State.PROPOSED:
			_answer(matchmaker.accept())


func _on_second_pressed() -> void:
	match state:
		State.PARTY, State.SEARCHING:
			_answer(matchmaker.cancel())
		State.PROPOSED:
			_answer(matchmaker.decline())


func _answer(request: BackendRequest) -> void:
	_answering = true
	_refresh()
	var result: BackendResult = await request.wait()
	_answering = false
	if not is_inside_tree():
		return
	if result.failed() and matchmaker.is_searching():
		_note = BackendUiErrors.text_of(result.error)
	_refresh()


func _on_status_changed(status: int) -> void:
	var before := state
	state = _STATES.get(status, State.IDLE)
	var was_proposed := before in [State.PROPOSED, State.ACCEPTED]
	if state == State.SEARCHING and was_proposed:
		_note = "Somebody did not accept. The search goes on."
	elif state != State.SEARCHING:
		_note = ""
	_refresh()


func _on_match_proposed(_proposal: BackendMatch) -> void:
	_proposed_seconds = matchmaker.answer_seconds
	_refresh()


func _on_search_failed(error: BackendError) -> void:
	_awaiting = false
	if error.code == "cancelled":
		state = State.IDLE
		_note = ""
		_refresh()
		search_cancelled.emit()
		return
	state = State.FAILED
	_note = BackendUiErrors.text_of(error)
	_refresh()


func _refresh() -> void:
	_shown_seconds = -1
	_title.text = _TITLES[state]
	_show(_message, _message_text())
	_show(_problem, _problem_text())
	_problem.add_theme_color_override(&"font_color", BackendUiTheme.color(self, &"warning_color"))
	_show(_count, _count_text())
	_wait.visible = state in [State.PARTY, State.SEARCHING, State.PROPOSED]
	_wait.text = _time_text(_seconds())
	_progress.visible = state not in [State.IDLE, State.FAILED]
	_progress.indeterminate = state != State.PROPOSED
	_show_button(_first, _FIRST_BUTTON.get(state, ""))
	_show_button(_second, _SECOND_BUTTON.get(state, ""))
	_buttons.visible = _first.visible or _second.visible
	_move_focus()


# Each state begins with its first button focused; the focus stays where the player moves it.
func _move_focus() -> void:
	var wanted := _first if _first.visible else _second
	if not is_visible_in_tree() or not wanted.visible or wanted.disabled:
		return
	var is_lost := not _first.has_focus() and not _second.has_focus()
	if state != _focused_state or is_lost:
		_focused_state = state
		wanted.grab_focus()


func _show(label: Label, text: String) -> void:
	label.text = text
	label.visible = not text.is_empty()


func _show_button(button: Button, text: String) -> void:
	button.text = text
	button.visible = not text.is_empty()
	button.disabled = _answering or matchmaker == null


func _message_text() -> String:
	if state == State.FAILED:
		return _note
	if state == State.SEARCHING:
		return _estimate_text()
	return _MESSAGES.get(state, "")


func _problem_text() -> String:
	if matchmaker != null and not matchmaker.connected:
		return "The service does not answer. The search goes on."
	return _note if state != State.FAILED else ""


func _estimate_text() -> String:
	var seconds := matchmaker.estimated_wait_seconds
	if seconds < 0.0:
		return ""
	if seconds < 60.0:
		return "Usually less than a minute."
	var minutes := roundi(seconds / 60.0)
	return tr_n("Usually about %d minute.", "Usually about %d minutes.", minutes) % minutes


func _count_text() -> String:
	if matchmaker == null:
		return ""
	if state == State.PARTY:
		return tr("Joined: %d of %d") % [matchmaker.party_members, matchmaker.party_size]
	if state in [State.PROPOSED, State.ACCEPTED] and matchmaker.current_match != null:
		var proposal := matchmaker.current_match
		var people := proposal.player_ids.size() - proposal.bot_ids.size()
		return tr("Accepted: %d of %d") % [proposal.accepted, people]
	return ""


func _seconds() -> int:
	if matchmaker == null:
		return 0
	if state == State.PROPOSED:
		return ceili(matchmaker.answer_seconds)
	return int(matchmaker.waited_seconds)


func _time_text(seconds: int) -> String:
	if state == State.PROPOSED:
		return tr_n("%d second left to answer.", "%d seconds left to answer.", seconds) % seconds
	return tr("Waiting: %s") % ("%d:%02d" % [seconds / 60, seconds % 60])


func _notification(what: int) -> void:
	if what == NOTIFICATION_TRANSLATION_CHANGED and is_node_ready():
		_refresh()
	elif what == NOTIFICATION_VISIBILITY_CHANGED and is_node_ready() and is_visible_in_tree():
		_refresh()
