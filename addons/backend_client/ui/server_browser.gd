class_name BackendServerBrowser
extends BackendScenePanel
## A server browser to drop into a menu: lists rooms with search, filters and sorting, keeps
## favorites, joins the room that the player chooses, finds one, or creates one.
##
## After [signal ticket_received], connect with the ticket. If [member create_options] is set,
## players create rooms of their own: show them [member BackendJoinTicket.invite_code], by which
## others join a room that is not listed. While the browser is visible, the list
## follows what happens, and no row moves while somebody points at one. Favorites and
## history are kept for each profile of the session. It takes its looks from the theme of the game.

## The player may join a room: pass [param ticket] to [method BackendPeerAuth.use_ticket], then
## connect.
signal ticket_received(ticket: BackendJoinTicket)

## What the list shows.
enum State { NOT_LOGGED_IN, LOADING, ROOMS, EMPTY, NO_MATCH, OFFLINE, FAILED }
const CONTENT := preload("res://addons/backend_client/ui/server_browser_content.tscn")

## Time per frame in which a list that has arrived is read.
const _READ_BUDGET_USEC := 800
## A list of this many rooms takes one page of the backend.
const _ROOMS_PER_PAGE := 200
const _OFFLINE_CODES: Array[String] = ["network", "timeout", "unavailable"]
const _MESSAGES: Dictionary[State, String] = {
	State.NOT_LOGGED_IN: "Log in to see the servers.",
	State.LOADING: "Looking for servers …",
	State.EMPTY: "No servers are running.",
	State.NO_MATCH: "No server matches.",
	State.OFFLINE: "The service cannot be reached. Check your connection.",
}

## Lists the rooms and requests the tickets.
@export var rooms: BackendRooms
## Seconds between two readings of the list while it cannot be followed, which is longer for lists
## of many pages, and between two searches of the local network. 0 turns all of it off: the list
## then changes by [method refresh] only.
@export var refresh_seconds := 10.0
## If [code]true[/code], there is a button that joins a room at once: one that fits the filters and
## has a free seat, or else a new one like [member create_options], if the backend creates rooms.
@export var show_quick_play := true
## What the form suggests to a player who creates a room; the number of players is at most its
## [member BackendRoomOptions.max_players]. If [code]null[/code], players create no rooms here. The
## backend has to start rooms on demand.
@export var create_options: BackendRoomOptions:
	set(value):
		create_options = value
		if is_node_ready():
			_update_buttons()
			_update_state_action()

## What the list shows now.
var state := State.LOADING

var _saved: BackendSavedRooms
var _model: BackendRoomListModel
var _all: BackendRoomPage
var _shown: BackendRoomPage
var _lan: BackendRoomPage
var _shown_lan: BackendRoomPage
var _query := BackendRoomQuery.new()
var _request: BackendRequest
var _lan_request: BackendRequest
var _select_again := false
var _select_held := true
var _selecting := false
var _age := 0.0
var _followed := BackendFollowedList.new()
var _sorts_by_ping := false

@onready var _main: Control = _content.get_node("%Main")
@onready var _filters: BackendRoomFilters = _content.get_node("%Filters")
@onready var _list: BackendRoomList = _content.get_node("%List")
@onready var _state_box: Control = _content.get_node("%StateBox")
@onready var _state_text: Label = _content.get_node("%StateText")
@onready var _state_progress: ProgressBar = _content.get_node("%StateProgress")
@onready var _state_action: Button = _content.get_node("%StateAction")
@onready var _status: Label = _content.get_node("%Status")
@onready var _favorite: Button = _content.get_node("%Favorite")
@onready var _code: Button = _content.get_node("%EnterCode")
@onready var _refresh: Button = _content.get_node("%Refresh")
@onready var _create: Button = _content.get_node("%CreateRoom")
@onready var _quick_play: Button = _content.get_node("%QuickPlay")
@onready var _join: Button = _content.get_node("%Join")
@onready var _joining: BackendRoomJoining = _content.get_node("%Joining")
@onready var _pinging: BackendRoomPinging = _content.get_node("%Pinging")


func _get_content() -> PackedScene:
	return CONTENT


func _ready() -> void:
	_saved = BackendSavedRooms.new(_profile())
	_model = BackendRoomListModel.new(_saved)
	_model.finished.connect(_on_page_read)
	_list.set_model(_model)
	_list.sortable = _sortable_columns()
	_list.show_sort(BackendRoomColumns.Column.NAME, false)
	_list.selection_changed.connect(_update_buttons)
	_list.activated.connect(join_selected)
	_list.favorite_toggled.connect(_toggle_favorite)
	_list.column_pressed.connect(_sort_by)
	_list.released.connect(_on_list_released)
	_list.view_changed.connect(_pinging.request)
	_pinging.measured.connect(_on_pings_measured)
	_filters.changed.connect(_select_rooms)
	_refresh.pressed.connect(refresh)
	_join.pressed.connect(join_selected)
	_favorite.pressed.connect(func() -> void: _toggle_favorite(_list.get_selected()))
	_code.pressed.connect(enter_invite_code)
	_state_action.pressed.connect(_on_state_action)
	_create.pressed.connect(create_room)
	_quick_play.pressed.connect(_on_quick_play_pressed)
	_joining.ticket_received.connect(_on_ticket_received)
	_joining.covered.connect(_on_covered)
	_joining.status_changed.connect(_on_joining_status_changed)
	_joining.changed.connect(_update_buttons)
	_enter_state(State.LOADING if _is_logged_in() else State.NOT_LOGGED_IN)
	_update_buttons()


func _process(delta: float) -> void:
	_model.read(_READ_BUDGET_USEC)
	if not is_visible_in_tree():
		return
	_pinging.advance(delta, rooms, _shown, _sorts_by_ping)
	_show_changes(delta)
	_age += delta
	if not _is_due():
		return
	if _followed.is_live():
		_age = 0.0
		_discover_lan()
	else:
		_load(true)


## Lists the rooms anew. Rooms that are gone leave the list, and it is sorted again.
func refresh() -> void:
	_list.forget_pings()
	_load(false)


## Whether something is being loaded, read, measured or joined.
func is_busy() -> bool:
	if _pinging.is_busy() or _lan_request != null:
		return true
	return _request != null or _joining.is_busy() or _selecting or _model.is_reading()


## The chosen room, or [code]null[/code].
func get_selected_room() -> BackendRoom:
	var listed := _list.get_selected()
	return listed.room if listed != null else null


## Joins the selected room, after asking for its password if it has one.
func join_selected() -> void:
	var listed := _list.get_selected()
	if listed != null and listed.is_joinable() and _can_join():
		_joining.join(listed)


## Asks for an invite code and joins its room.
func enter_invite_code() -> void:
	if _can_join():
		_joining.enter_invite_code()


## Asks what a new room is to be like, and creates it. Needs [member create_options].
func create_room() -> void:
	if create_options != null and _can_join():
		_joining.create_room(create_options)


## Joins a room that fits the filters, or a new one if [member create_options] is set.
func quick_play() -> void:
	if not _can_join():
		return
	var query := BackendRoomQuery.new()
	_filters.fill(query)
	# A new room is empty, and the full ones do not count anyway.
	query.not_empty = false
	var options: BackendRoomOptions = null
	if create_options != null:
		# Strangers play together: the room is for everybody.
		options = create_options.duplicate()
		options.visibility = BackendServerRegistration.VISIBILITY_PUBLIC
	_joining.quick_play(query, options)


func _can_join() -> bool:
	_joining.rooms = rooms
	return _is_logged_in() and not _joining.is_busy()


func _is_due() -> bool:
	if refresh_seconds <= 0.0 or not _is_logged_in() or is_busy():
		return false
	var pages := 1.0 if _all == null else ceilf(_all.size() / float(_ROOMS_PER_PAGE))
	# A service that did not answer is not asked again at once.
	var is_first := _all == null and state not in [State.OFFLINE, State.FAILED]
	return is_first or _age > refresh_seconds * maxf(pages / 5.0, 1.0)


# The list is read once, and followed from then on.
func _follow_list() -> void:
	# One that was hidden while the list was loading follows when it is shown again.
	if refresh_seconds > 0.0 and is_visible_in_tree():
		_followed.start(rooms)


func _show_changes(delta: float) -> void:
	_followed.advance(delta)
	# A list that is loading, read or shown is not replaced in the middle of it.
	if _followed.has_changes() and not is_busy():
		_all = _followed.take()
		_select(true)


func _load(quietly: bool) -> void:
	if rooms == null or _request != null:
		return
	if not _is_logged_in():
		_followed.stop()
		_enter_state(State.NOT_LOGGED_IN)
		return
	_age = 0.0
	if _all == null and not (quietly and state in [State.OFFLINE, State.FAILED]):
		_enter_state(State.LOADING)
	elif not quietly:
		_show_status("Looking for servers …")
	_discover_lan()
	_request = rooms.list_all_rooms()
	_update_buttons()
	var page: BackendRoomPage = await _request.wait()
	_request = null
	if not is_inside_tree():
		return
	_age = 0.0
	if page.failed():
		_on_load_failed(page.error)
	else:
		_all = page
		_select(quietly)
		_follow_list()
	_update_buttons()


func _on_load_failed(error: BackendError) -> void:
	if error.code == "cancelled":
		return
	if _all != null:
		_show_status(BackendUiErrors.text_of(error), &"error_color")
	elif error.code in _OFFLINE_CODES:
		_enter_state(State.OFFLINE)
	else:
		_enter_state(State.FAILED, BackendUiErrors.text_of(error))


func _select_rooms() -> void:
	_list.scroll_to_top()
	_select(false)


# Filters and sorts what was loaded, on a worker thread.
func _select(held: bool) -> void:
	if _all == null:
		return
	_select_held = _select_held and held
	_select_again = true
	if _selecting:
		return
	_selecting = true
	while _select_again:
		_select_again = false
		_filters.fill(_query)
		var pings := _pinging.pings if _sorts_by_ping else null
		var shown: BackendRoomPage = await rooms.select_rooms(_all, _query, pings).wait()
		if not is_inside_tree():
			_selecting = false
			return
		if shown.failed():
			_show_status(BackendUiErrors.text_of(shown.error), &"error_color")
		elif not _select_again:
			_shown = shown
		if _lan == null:
			continue
		# The same filters: a server of both lists would come back by its second one.
		var shown_lan: BackendRoomPage = await rooms.select_rooms(_lan, _query, pings).wait()
		if not is_inside_tree():
			_selecting = false
			return
		if shown_lan.ok() and not _select_again:
			_shown_lan = shown_lan
	_selecting = false
	_start_reading(_select_held)
	_select_held = true


func _start_reading(held: bool) -> void:
	if _shown == null:
		return
	held = held and _list.is_held()
	match _filters.tab:
		BackendRoomFilters.Tab.FAVORITES:
			_model.start_saved(_shown, _shown_lan, _saved.get_favorites(), held)
		BackendRoomFilters.Tab.HISTORY:
			_model.start_saved(_shown, _shown_lan, _saved.get_history(), held)
		_:
			_model.start(_shown, _shown_lan, held)


func _on_page_read() -> void:
	if _model.size() > 0:
		_enter_state(State.ROOMS)
	elif _all != null and _all.size() == 0 and _filters.tab == BackendRoomFilters.Tab.ALL:
		_enter_state(State.EMPTY)
	else:
		_enter_state(State.NO_MATCH)
	_filters.offer(_model)
	_update_count()
	_pinging.request()


func _on_list_released() -> void:
	if not is_busy():
		_start_reading(false)


func _sortable_columns() -> Array[BackendRoomColumns.Column]:
	return [
		BackendRoomColumns.Column.NAME,
		BackendRoomColumns.Column.PLAYERS,
		BackendRoomColumns.Column.PING
	]


func _sort_by(column: BackendRoomColumns.Column) -> void:
	var by_ping := column == BackendRoomColumns.Column.PING
	var by := (
		BackendRoomQuery.SORT_PLAYERS
		if column == BackendRoomColumns.Column.PLAYERS
		else BackendRoomQuery.SORT_NAME
	)
	var is_again := by_ping == _sorts_by_ping and _query.sort == by
	# Most players first: who sorts by players looks for company.
	_query.descending = (
		not _query.descending if is_again else column == BackendRoomColumns.Column.PLAYERS
	)
	_query.sort = by
	_sorts_by_ping = by_ping
	_list.show_sort(column, _query.descending)
	_select_rooms()


func _on_quick_play_pressed() -> void:
	if _joining.is_quick_play():
		_joining.close()
	else:
		quick_play()


func _on_ticket_received(ticket: BackendJoinTicket, listed: BackendListedRoom) -> void:
	if listed != null:
		_saved.add_to_history(listed.key, listed.name)
	ticket_received.emit(ticket)


func _on_covered(is_covered: bool) -> void:
	_main.visible = not is_covered
	if not is_covered:
		_update_count()
		_list.grab_focus()


func _on_joining_status_changed(message: String, color: StringName) -> void:
	if message.is_empty():
		_update_count()
	else:
		_show_status(message, color)


func _toggle_favorite(listed: BackendListedRoom) -> void:
	if listed == null:
		return
	if not _saved.set_favorite(listed.key, listed.name, not listed.is_favorite):
		_show_status("The favorites could not be saved.", &"error_color")
	_start_reading(true)
	_model.changed.emit()


func _on_pings_measured() -> void:
	if _sorts_by_ping:
		# No row moves while somebody points at one.
		_select(true)


func _discover_lan() -> void:
	if _lan_request != null:
		return
	_lan_request = rooms.discover_lan()
	var page: BackendRoomPage = await _lan_request.wait()
	_lan_request = null
	if not is_inside_tree():
		return
	if not page.failed():
		_lan = page
		if _shown != null:
			_select(true)


func _on_state_action() -> void:
	if state == State.NO_MATCH:
		_filters.clear()
	elif state == State.EMPTY and create_options != null:
		create_room()
	else:
		refresh()


func _enter_state(wanted: State, message: String = "") -> void:
	state = wanted
	_state_box.visible = state != State.ROOMS
	_state_progress.visible = state == State.LOADING
	_state_text.text = _MESSAGES.get(state, message)
	if state == State.NO_MATCH and _filters.tab == BackendRoomFilters.Tab.FAVORITES:
		_state_text.text = "Servers with a star are listed here."
	elif state == State.NO_MATCH and _filters.tab == BackendRoomFilters.Tab.HISTORY:
		_state_text.text = "Servers that you have joined are listed here."
	_state_action.visible = state not in [State.ROOMS, State.LOADING, State.NOT_LOGGED_IN]
	_update_state_action()
	_update_count()


func _update_state_action() -> void:
	if state == State.NO_MATCH:
		_state_action.text = "Show all servers"
	elif state == State.EMPTY and create_options != null:
		_state_action.text = "Create a room"
	else:
		_state_action.text = "Try again"


func _update_count() -> void:
	if state != State.ROOMS:
		_show_status("")
		return
	var count := _model.size()
	_show_status(tr_n("%d server", "%d servers", count) % count)


func _show_status(message: String, color: StringName = &"secondary_color") -> void:
	_status.text = message
	_status.add_theme_color_override(&"font_color", BackendUiTheme.color(self, color))


func _update_buttons() -> void:
	var listed := _list.get_selected()
	var joining := _joining.is_busy()
	var enabled := _is_logged_in() and not joining
	_join.disabled = listed == null or not listed.is_joinable() or listed.is_full() or joining
	_favorite.disabled = listed == null
	_favorite.text = "Remove favorite" if listed != null and listed.is_favorite else "Add favorite"
	_refresh.disabled = _request != null or not _is_logged_in()
	_code.disabled = not enabled
	_create.visible = create_options != null
	_create.disabled = not enabled
	_quick_play.visible = show_quick_play
	_quick_play.text = "Cancel" if _joining.is_quick_play() else "Quick play"
	_quick_play.disabled = not enabled and not _joining.is_quick_play()


func _exit_tree() -> void:
	_followed.stop()


func _notification(what: int) -> void:
	if what == NOTIFICATION_VISIBILITY_CHANGED and is_node_ready() and not is_visible_in_tree():
		_followed.stop()
		# Who has left the menu does not want to be taken into a game later.
		_joining.stop()
	if what == NOTIFICATION_TRANSLATION_CHANGED and is_node_ready():
		_update_count()


func _is_logged_in() -> bool:
	return rooms != null and rooms.session != null and rooms.session.is_logged_in()


func _profile() -> String:
	return "default" if rooms == null or rooms.session == null else rooms.session.active_profile
