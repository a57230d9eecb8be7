@tool
extends VBoxContainer
## What the local backend stores: rooms and the players in them, players and their documents.

const BackendCommand := preload("backend_command.gd")
const LocalBackend := preload("local_backend.gd")

const TITLES: PackedStringArray = ["Name", "Details", "Contents"]
## Of `backend-server players`.
const MAX_PLAYERS := 1_000
const OVERVIEW := "/v1/admin/overview"
const PLAYERS_OF_ROOM := "/v1/admin/servers/%s/players"
const HINT := "Select a player to see the documents, or a room to see the players that it holds."

var _backend: LocalBackend
var _players := BackendCommand.new()
var _documents := BackendCommand.new()
## Who was selected while the documents of another player were read.
var _next_player := ""
var _shown_player := ""
var _has_requested_key := false
var _refresh_button := Button.new()
var _filter := LineEdit.new()
var _status := Label.new()
var _tree := Tree.new()
var _rooms_item: TreeItem
var _players_item: TreeItem
var _text := CodeEdit.new()
var _overview_request := HTTPRequest.new()
var _players_request := HTTPRequest.new()
var _key := ""


func _init(backend: LocalBackend) -> void:
	_backend = backend
	name = "Data"
	_backend.admin_key_created.connect(_on_admin_key_created)
	_players.finished.connect(_on_players_read)
	_documents.finished.connect(_on_documents_read)
	_overview_request.request_completed.connect(_on_overview_received)
	_players_request.request_completed.connect(_on_room_received)
	add_child(_overview_request)
	add_child(_players_request)
	var bar := HBoxContainer.new()
	_refresh_button.text = "Refresh"
	_refresh_button.tooltip_text = "Reads rooms and players again"
	_refresh_button.pressed.connect(refresh)
	_filter.placeholder_text = "Filter"
	_filter.accessibility_name = "Filter players by name or id"
	_filter.clear_button_enabled = true
	_filter.custom_minimum_size.x = 160
	_filter.text_changed.connect(func(_text_now: String) -> void: _apply_filter())
	_status.size_flags_horizontal = SIZE_EXPAND_FILL
	_status.text_overrun_behavior = TextServer.OVERRUN_TRIM_ELLIPSIS
	for control: Control in [_refresh_button, _filter, _status]:
		bar.add_child(control)
	add_child(bar)
	var split := HSplitContainer.new()
	split.size_flags_vertical = SIZE_EXPAND_FILL
	_set_up_tree()
	split.add_child(_tree)
	_text.editable = false
	_text.size_flags_horizontal = SIZE_EXPAND_FILL
	_text.placeholder_text = HINT
	_text.accessibility_name = "Documents"
	split.add_child(_text)
	add_child(split)
	visibility_changed.connect(_on_visibility_changed)


func _exit_tree() -> void:
	_players.close()
	_documents.close()


## Reads rooms and players again, and the documents of the player that is shown.
func refresh() -> void:
	if not FileAccess.file_exists(_backend.database()):
		_status.text = "Nothing is stored yet: start the backend."
		return
	_status.text = "Reading …"
	_players.run(["players", "--database", _backend.database()])
	if not _shown_player.is_empty():
		_read_documents(_shown_player)
	if _backend.state == LocalBackend.State.RUNNING:
		# The key may be one of another database.
		_has_requested_key = true
		_backend.create_admin_key()
	else:
		_clear(_rooms_item)


func _set_up_tree() -> void:
	_tree.columns = TITLES.size()
	_tree.column_titles_visible = true
	_tree.hide_root = true
	_tree.select_mode = Tree.SELECT_ROW
	_tree.size_flags_horizontal = SIZE_EXPAND_FILL
	_tree.accessibility_name = "Rooms and players"
	for column in TITLES.size():
		_tree.set_column_title(column, TITLES[column])
		_tree.set_column_title_alignment(column, HORIZONTAL_ALIGNMENT_LEFT)
	_tree.set_column_expand_ratio(1, 2)
	_tree.item_selected.connect(_on_item_selected)
	var root := _tree.create_item()
	_rooms_item = _tree.create_item(root)
	_rooms_item.set_text(0, "Rooms")
	_players_item = _tree.create_item(root)
	_players_item.set_text(0, "Players")


func _on_visibility_changed() -> void:
	if is_visible_in_tree():
		refresh()


func _on_players_read(output: String, is_error: bool) -> void:
	var players: Variant = null if is_error else JSON.parse_string(output)
	if not players is Array:
		_status.text = output
		return
	_clear(_players_item)
	for player: Dictionary in players:
		var item := _tree.create_item(_players_item)
		item.set_text(0, player["display_name"])
		item.set_text(1, player["player_id"])
		item.set_tooltip_text(1, player["player_id"])
		var keys: Array = player["documents"].keys()
		item.set_text(2, ", ".join(keys))
		item.set_metadata(0, {"player": player["player_id"]})
	_players_item.set_text(2, str(players.size()))
	_status.text = (
		"The first %d players are shown." % MAX_PLAYERS
		if players.size() >= MAX_PLAYERS
		else "Read."
	)
	_apply_filter()


func _on_admin_key_created(key: String) -> void:
	if not _has_requested_key or not is_inside_tree():
		return
	_has_requested_key = false
	_key = key
	_request(_overview_request, OVERVIEW)


func _request(request: HTTPRequest, path: String) -> void:
	request.cancel_request()
	var error := request.request(_backend.url + path, ["Authorization: Bearer " + _key])
	if error != OK:
		_status.text = "%s%s cannot be requested: %s." % [_backend.url, path, error_string(error)]


func _on_overview_received(
	result: int, status: int, _headers: PackedStringArray, body: PackedByteArray
) -> void:
	var overview := _reply(OVERVIEW, result, status, body)
	if overview.is_empty():
		return
	_clear(_rooms_item)
	for room: Dictionary in overview["servers"]:
		var item := _tree.create_item(_rooms_item)
		item.set_text(0, room["name"])
		item.set_text(1, "%s, heard of %d s ago" % [room["status"], room["heartbeat_age_seconds"]])
		item.set_tooltip_text(1, item.get_text(1))
		item.set_text(2, "%d of %d" % [room["players"], room["max_players"]])
		item.set_tooltip_text(0, "%s at %s" % [room["server_id"], room["address"]])
		item.set_metadata(0, {"room": room["server_id"], "name": room["name"]})
	_rooms_item.set_text(2, str(overview["servers"].size()))


func _on_item_selected() -> void:
	var chosen: Variant = _tree.get_selected().get_metadata(0)
	if not chosen is Dictionary:
		return
	if chosen.has("player"):
		_read_documents(chosen["player"])
	elif not _key.is_empty():
		_shown_player = ""
		_text.text = ""
		_request(_players_request, PLAYERS_OF_ROOM % String(chosen["room"]).uri_encode())


func _read_documents(player_id: String) -> void:
	_shown_player = player_id
	if _documents.is_running():
		_next_player = player_id
		return
	_next_player = ""
	_documents.run(["player-documents", "--database", _backend.database(), "--player", player_id])


func _on_documents_read(output: String, _is_error: bool) -> void:
	if not _next_player.is_empty():
		_read_documents(_next_player)
	elif not _shown_player.is_empty():
		_text.text = output


func _on_room_received(
	result: int, status: int, _headers: PackedStringArray, body: PackedByteArray
) -> void:
	var reply := _reply(PLAYERS_OF_ROOM, result, status, body)
	if reply.is_empty():
		return
	var lines: PackedStringArray = []
	for player: Dictionary in reply["players"]:
		lines.append("%s  %s" % [player["player_id"], player["display_name"]])
	_text.text = "Holds nobody." if lines.is_empty() else "\n".join(lines)


## The reply of the backend; empty, after a message, if it is none.
func _reply(path: String, result: int, status: int, body: PackedByteArray) -> Dictionary:
	var reply: Variant = JSON.parse_string(body.get_string_from_utf8())
	if result == HTTPRequest.RESULT_SUCCESS and status == 200 and reply is Dictionary:
		return reply
	_status.text = "%s%s: status %d, result %d." % [_backend.url, path, status, result]
	return {}


func _apply_filter() -> void:
	for item in _players_item.get_children():
		var text := item.get_text(0) + " " + item.get_text(1)
		item.visible = _filter.text.is_empty() or text.containsn(_filter.text)


func _clear(item: TreeItem) -> void:
	for child in item.get_children():
		child.free()
	item.set_text(2, "")
