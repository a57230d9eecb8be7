@tool
extends Tree
## What servers and clients do now, as they report it about once per second.

## Instances that are shown; the oldest reports are removed.
const MAX_INSTANCES := 48

## The rows of each instance, by its process id.
var _items: Dictionary[int, TreeItem] = {}
var _names: Dictionary[int, String] = {}
var _ended: PackedInt32Array = []


func _init() -> void:
	name = "State"
	columns = 2
	hide_root = true
	select_mode = SELECT_ROW
	size_flags_vertical = SIZE_EXPAND_FILL
	accessibility_name = "State of servers and clients"
	set_column_expand_ratio(1, 3)
	item_collapsed.connect(_summarize)
	create_item()


## Shows the names of the processes; others get one of their own. Those that have ended are removed.
func show_processes(names: Dictionary[int, String], ended: PackedInt32Array) -> void:
	_names = names
	_ended = ended
	for pid in ended:
		remove_process(pid)


func remove_process(pid: int) -> void:
	if _items.has(pid):
		_items[pid].free()
		_items.erase(pid)


## Shows a state that a process has reported.
func show_state(state: Dictionary) -> void:
	var pid := int(state.get("process_id", 0))
	# Its last report may be read after its end.
	if _ended.has(pid):
		return
	if not _items.has(pid):
		if _items.size() >= MAX_INSTANCES:
			remove_process(_items.keys()[0])
		_items[pid] = create_item()
	var item := _items[pid]
	item.set_text(0, _names.get(pid, "PID %d" % pid))
	var rows := rows_of(state)
	for index in rows.size():
		var row := item.get_child(index) if index < item.get_child_count() else create_item(item)
		row.set_text(0, rows[index][0])
		row.set_text(1, rows[index][1])
		row.set_tooltip_text(1, rows[index][1])
		if rows[index].size() > 2:
			row.set_custom_color(1, get_theme_color(&"error_color", &"Editor"))
		else:
			row.clear_custom_color(1)
	while item.get_child_count() > rows.size():
		item.get_child(-1).free()
	_summarize(item)


## A collapsed instance shows its first row.
func _summarize(item: TreeItem) -> void:
	var shows_row := item.collapsed and item.get_child_count() > 0
	item.set_text(1, item.get_child(0).get_text(1) if shows_row else "")


## Labels and values, and `true` for those that are errors.
static func rows_of(state: Dictionary) -> Array[Array]:
	var rows: Array[Array] = []
	for session: Dictionary in state.get("sessions", []):
		rows.append(["Session", _session(session)])
	for room: Dictionary in state.get("registrations", []):
		rows.append(["Room", _room(room)])
		rows.append(["Heartbeats", _heartbeats(room)])
	for auth: Dictionary in state.get("peer_auths", []):
		var players: PackedStringArray = auth.get("players", [])
		if not players.is_empty():
			rows.append(["Players connected", "%d: %s" % [players.size(), ", ".join(players)]])
	for store: Dictionary in state.get("player_stores", []):
		if store.has("players"):
			rows.append(["Players held", str(store["players"])])
			rows.append(["Unsaved", _unsaved(store)])
			rows.append(["Last save took", "%.0f ms" % store["last_flush_ms"]])
	for error: Dictionary in state.get("errors", []):
		rows.append(["Error", _error(error), true])
	return rows


static func _session(session: Dictionary) -> String:
	var text := "logged out"
	if session["is_logged_in"]:
		text = "%s (%s)" % [session["display_name"], session["player_id"]]
		if session["is_offline"]:
			text += ", offline"
	var profile: String = session["profile"]
	return text if profile.is_empty() else "%s, profile %s" % [text, profile]


static func _room(room: Dictionary) -> String:
	var status := "registered"
	if String(room["server_id"]).is_empty():
		status = "not registered"
	elif room["is_draining"]:
		status = "draining"
	return "%s: %s, %d of %d players" % [room["name"], status, room["players"], room["max_players"]]


static func _heartbeats(room: Dictionary) -> String:
	if not room.has("heartbeat_age_seconds"):
		return "none answered yet"
	return (
		"%d answered, the last one %s ago"
		% [room["heartbeats"], _duration(room["heartbeat_age_seconds"])]
	)


static func _unsaved(store: Dictionary) -> String:
	if store["unsaved"] == 0:
		return "nothing"
	return (
		"%d %s (%s) for %s; %d in the journal"
		% [
			store["unsaved"],
			"document" if store["unsaved"] == 1 else "documents",
			String.humanize_size(store["unsaved_bytes"]),
			_duration(store["oldest_seconds"]),
			store["journalled"],
		]
	)


static func _error(error: Dictionary) -> String:
	var times := "" if error["count"] == 1 else ", %d times" % error["count"]
	return (
		"%s: %s (%s ago%s)"
		% [error["code"], error["message"], _duration(error["age_seconds"]), times]
	)


static func _duration(seconds: float) -> String:
	return "%.0f s" % seconds if seconds < 120.0 else "%.0f min" % (seconds / 60.0)
