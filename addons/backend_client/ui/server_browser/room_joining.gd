class_name BackendRoomJoining
extends Node
## Gets the ticket for a room: by its row, by an invite code, by creating one, or by quick play.
## Asks for what is missing in place of the list.

## The player may join a room. [param listed] is its row, or [code]null[/code].
signal ticket_received(ticket: BackendJoinTicket, listed: BackendListedRoom)
## Something is asked for in place of the list, or no longer.
signal covered(is_covered: bool)
## There is something to say about it; the name of a color of [BackendUiTheme] goes with it.
signal status_changed(message: String, color: StringName)
## A request has begun or ended.
signal changed

## Requests the tickets.
var rooms: BackendRooms

var _request: BackendRequest
var _is_quick_play := false
var _is_covering := false
# What the prompt is for: a room, or an invite code.
var _listed: BackendListedRoom
var _code := ""

@onready var _prompt: BackendPrompt = get_node("%Prompt")
@onready var _form: BackendRoomForm = get_node("%RoomForm")


func _ready() -> void:
	_prompt.submitted.connect(_on_prompt_submitted)
	_prompt.cancelled.connect(close)
	_form.submitted.connect(_on_form_submitted)
	_form.cancelled.connect(close)


func _exit_tree() -> void:
	stop()


## Whether a ticket is requested.
func is_busy() -> bool:
	return _request != null


## Whether quick play looks for a room.
func is_quick_play() -> bool:
	return is_busy() and _is_quick_play


## Joins a room of the list, after asking for its password if it has one.
func join(listed: BackendListedRoom) -> void:
	if is_busy():
		return
	_listed = listed
	_code = ""
	if listed.has_password():
		_cover(_ask_password.bind(listed.name))
	else:
		_join(rooms.request_ticket(listed.room.room_id))


## Asks for an invite code and joins its room.
func enter_invite_code() -> void:
	_listed = null
	_code = ""
	_cover(func() -> void: _prompt.ask("Join with an invite code", "", "Invite code", false, 16))


## Asks what the room is to be like, and creates it.
func create_room(suggested: BackendRoomOptions) -> void:
	_cover(_form.ask.bind(suggested))


## Joins a room that fits [param query], or creates one.
func quick_play(query: BackendRoomQuery, options: BackendRoomOptions) -> void:
	if is_busy():
		return
	_listed = null
	_is_quick_play = true
	_wait("Looking for a free place …", rooms.quick_play(query, options))


## Requests no ticket any more: nobody waits for it, and no server need start for it.
func stop() -> void:
	if _request != null:
		_request.cancel()


## Requests no ticket any more, and shows the list.
func close() -> void:
	stop()
	_prompt.close()
	_form.close()
	if _is_covering:
		_is_covering = false
		covered.emit(false)


func _cover(ask: Callable) -> void:
	_is_covering = true
	covered.emit(true)
	ask.call()


func _ask_password(name: String) -> void:
	_prompt.ask("This server has a password", name, "Password", true, 128)


func _on_prompt_submitted(text: String) -> void:
	if is_busy():
		return
	if _listed != null:
		_join(rooms.request_ticket(_listed.room.room_id, text))
	elif _prompt.is_secret():
		_join(rooms.join_by_code(_code, text))
	else:
		_code = text
		_join(rooms.join_by_code(text))


func _on_form_submitted(options: BackendRoomOptions) -> void:
	if is_busy():
		return
	_listed = null
	_form.set_busy(true)
	_wait("The server is starting …", rooms.create_room(options))


func _join(request: BackendRequest) -> void:
	_prompt.set_busy(true)
	_wait("Joining …", request)


func _wait(message: String, request: BackendRequest) -> void:
	_request = request
	status_changed.emit(message, &"secondary_color")
	changed.emit()
	var ticket: BackendJoinTicket = await request.wait()
	_request = null
	_is_quick_play = false
	if not is_inside_tree():
		return
	_prompt.set_busy(false)
	_form.set_busy(false)
	if ticket.ok():
		close()
		ticket_received.emit(ticket, _listed)
	else:
		_show_failure(ticket.error)
	changed.emit()


func _show_failure(error: BackendError) -> void:
	status_changed.emit("", &"secondary_color")
	if error.code == "cancelled":
		return
	var message := BackendUiErrors.text_of(error)
	if _form.visible:
		_form.show_error(message)
	elif not _prompt.visible:
		status_changed.emit(message, &"error_color")
	elif error.code == "wrong_room_password" and not _prompt.is_secret():
		# The room of the code has a password as well.
		_ask_password("")
	else:
		_prompt.show_error(message)
