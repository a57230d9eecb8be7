class_name BackendRoomRow
extends Control
## One of the few rows of a [BackendRoomList] that are reused for all rooms. It shows a
## [BackendListedRoom] and handles no input.

## What it shows, or [code]null[/code].
var listed: BackendListedRoom
## Round trip in milliseconds, or -1 while it is unknown.
var ping_ms := -1.0
var is_selected := false:
	set(value):
		if value != is_selected:
			is_selected = value
			_recolor()
var is_hovered := false:
	set(value):
		if value != is_hovered:
			is_hovered = value
			queue_redraw()

var _columns: BackendRoomColumns
var _labels: Dictionary[BackendRoomColumns.Column, Label] = {}


func _init(columns: BackendRoomColumns) -> void:
	_columns = columns
	mouse_filter = MOUSE_FILTER_IGNORE
	for column: BackendRoomColumns.Column in [
		BackendRoomColumns.Column.NAME,
		BackendRoomColumns.Column.MAP,
		BackendRoomColumns.Column.MODE,
		BackendRoomColumns.Column.PLAYERS,
		BackendRoomColumns.Column.PING
	]:
		var label := Label.new()
		# Names are those of servers, not texts of the scene.
		label.auto_translate_mode = AUTO_TRANSLATE_MODE_DISABLED
		label.clip_text = true
		label.text_overrun_behavior = TextServer.OVERRUN_TRIM_ELLIPSIS
		label.vertical_alignment = VERTICAL_ALIGNMENT_CENTER
		label.mouse_filter = MOUSE_FILTER_IGNORE
		add_child(label)
		_labels[column] = label


## Shows another room, or the same one after it has changed.
func show_room(room: BackendListedRoom) -> void:
	listed = room
	_labels[BackendRoomColumns.Column.NAME].text = room.name
	_labels[BackendRoomColumns.Column.MAP].text = "" if room.room == null else room.room.map
	_labels[BackendRoomColumns.Column.MODE].text = "" if room.room == null else room.room.mode
	_labels[BackendRoomColumns.Column.PLAYERS].text = _players()
	lay_out()
	_recolor()


## Shows a round trip, or that it is unknown.
func show_ping(milliseconds: float) -> void:
	if milliseconds == ping_ms:
		return
	ping_ms = milliseconds
	_labels[BackendRoomColumns.Column.PING].text = (
		"" if ping_ms < 0.0 else tr("%d ms") % roundi(ping_ms)
	)
	queue_redraw()


## Puts the labels where the columns are.
func lay_out() -> void:
	for column: BackendRoomColumns.Column in _labels:
		var label := _labels[column]
		label.visible = column in _columns.shown
		if label.visible:
			var place := _columns.rect(column, size.y)
			if column == BackendRoomColumns.Column.NAME:
				place = _beside_icons(place)
			elif column == BackendRoomColumns.Column.PING:
				place = _beside(place, _icon_size() * 1.6)
			label.position = place.position
			label.size = place.size
	queue_redraw()


## The row in one sentence, for screen readers.
func describe() -> String:
	var parts := PackedStringArray([_labels[BackendRoomColumns.Column.NAME].text])
	for column: BackendRoomColumns.Column in [
		BackendRoomColumns.Column.MAP,
		BackendRoomColumns.Column.MODE,
		BackendRoomColumns.Column.PLAYERS,
		BackendRoomColumns.Column.PING
	]:
		if not _labels[column].text.is_empty():
			parts.append(_labels[column].text)
	return ", ".join(parts)


func _notification(what: int) -> void:
	match what:
		NOTIFICATION_RESIZED:
			lay_out()
		NOTIFICATION_THEME_CHANGED:
			_recolor()
		NOTIFICATION_TRANSLATION_CHANGED:
			if listed != null:
				_labels[BackendRoomColumns.Column.PLAYERS].text = _players()
		NOTIFICATION_DRAW:
			_draw_row()


func _players() -> String:
	if listed.room == null or listed.is_gone:
		return tr("offline")
	return "%d / %d" % [listed.room.players, listed.room.max_players]


func _recolor() -> void:
	if listed == null:
		return
	var color := _text_color()
	for column: BackendRoomColumns.Column in _labels:
		_labels[column].add_theme_color_override(&"font_color", color)
	queue_redraw()


func _text_color() -> Color:
	if is_selected:
		return get_theme_color(&"font_selected_color", &"Tree")
	if listed != null and not listed.is_joinable():
		return BackendUiTheme.color(self, &"secondary_color")
	return get_theme_color(&"font_color", &"Tree")


func _draw_row() -> void:
	if listed == null:
		return
	var rect := Rect2(Vector2.ZERO, size)
	if is_selected:
		draw_style_box(get_theme_stylebox(&"selected", &"Tree"), rect)
	elif is_hovered:
		draw_style_box(get_theme_stylebox(&"hovered", &"Tree"), rect)
	var color := _text_color()
	var star := _icon_in(_columns.rect(BackendRoomColumns.Column.FAVORITE, size.y))
	if listed.is_favorite:
		var gold := color if is_selected else BackendUiTheme.color(self, &"favorite_color")
		BackendRoomIcons.draw(self, &"favorite", star, gold)
	else:
		BackendRoomIcons.draw(self, &"favorite_outline", star, Color(color, 0.6))
	var at := _icon_in(
		_leading(_columns.rect(BackendRoomColumns.Column.NAME, size.y), _icon_size())
	)
	for icon: StringName in _icons():
		BackendRoomIcons.draw(self, icon, at, color)
		at.position.x += _icon_size() * (-1.4 if is_layout_rtl() else 1.4)
	if BackendRoomColumns.Column.PING in _columns.shown and ping_ms >= 0.0:
		var place := _columns.rect(BackendRoomColumns.Column.PING, size.y)
		var bars := _icon_in(_leading(place, _icon_size()))
		BackendRoomIcons.draw_bars(self, bars, _bars(), color if is_selected else _ping_color())


func _icons() -> Array[StringName]:
	var icons: Array[StringName] = []
	if listed == null:
		return icons
	if listed.has_password():
		icons.append(&"lock")
	if listed.is_lan():
		icons.append(&"lan")
	return icons


func _bars() -> int:
	for step: int in 3:
		if ping_ms < [60.0, 120.0, 200.0][step]:
			return 4 - step
	return 1


func _ping_color() -> Color:
	var names: Array[StringName] = [
		&"error_color", &"error_color", &"warning_color", &"success_color", &"success_color"
	]
	return BackendUiTheme.color(self, names[_bars()])


func _icon_size() -> float:
	return minf(get_theme_font_size(&"font_size", &"Label"), size.y * 0.8)


func _icon_in(place: Rect2) -> Rect2:
	var side := _icon_size()
	return Rect2(place.get_center() - Vector2(side, side) / 2.0, Vector2(side, side))


# The first `width` pixels of a place, in reading direction.
func _leading(place: Rect2, width: float) -> Rect2:
	var left := place.end.x - width if is_layout_rtl() else place.position.x
	return Rect2(left, place.position.y, width, place.size.y)


# A place without its first `width` pixels, in reading direction.
func _beside(place: Rect2, width: float) -> Rect2:
	var rest := maxf(place.size.x - width, 0.0)
	var left := place.position.x if is_layout_rtl() else place.position.x + width
	return Rect2(left, place.position.y, rest, place.size.y)


func _beside_icons(place: Rect2) -> Rect2:
	return _beside(place, _icons().size() * _icon_size() * 1.4)
