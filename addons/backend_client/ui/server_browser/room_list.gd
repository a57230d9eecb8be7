class_name BackendRoomList
extends Control
## A list of any number of rooms with a few reused rows, for mouse, touch, keyboard and gamepad.

## Another room was selected, or none.
signal selection_changed
## The selected room was activated by Enter, a double click or the gamepad.
signal activated
## The star of a room was clicked, or its key pressed.
signal favorite_toggled(listed: BackendListedRoom)
## A column title was clicked.
signal column_pressed(column: BackendRoomColumns.Column)
## Nobody points at the rows any more.
signal released
## Other rows came into view, or rooms changed.
signal view_changed

const _WHEEL_ROWS := 3.0
const _DRAG_THRESHOLD := 12.0
## How fast a flick slows down, per second.
const _FRICTION := 4.0

## Columns with a title that sorts.
var sortable: Array[BackendRoomColumns.Column] = []:
	set(value):
		sortable = value
		_update_titles()

var _model: BackendRoomListModel
var _columns := BackendRoomColumns.new()
var _rows: Array[BackendRoomRow] = []
var _bound: PackedInt32Array = []
var _body := Control.new()
var _bar := VScrollBar.new()
var _titles: Dictionary[BackendRoomColumns.Column, Button] = {}
var _row_height := 32.0
var _offset := 0.0
var _selected := ""
var _hovered := -1
var _top_id := ""
# Where the first row in view, and the selected one if in view, are within the rows.
var _top_place := 0.0
var _anchor_place := NAN
var _pings: Dictionary[String, float] = {}
var _sorted_by := -1
var _descending := false
var _drag := 0.0
var _velocity := 0.0
var _last_held := false


func _init() -> void:
	focus_mode = FOCUS_ALL
	clip_contents = true
	_body.mouse_filter = MOUSE_FILTER_IGNORE
	_body.clip_contents = true
	add_child(_body, false, INTERNAL_MODE_FRONT)
	add_child(_bar, false, INTERNAL_MODE_FRONT)
	_bar.value_changed.connect(_on_bar_moved)
	for column: BackendRoomColumns.Column in BackendRoomColumns.TITLES:
		var title := Button.new()
		title.text = BackendRoomColumns.TITLES[column]
		title.alignment = HORIZONTAL_ALIGNMENT_LEFT
		title.clip_text = true
		title.text_overrun_behavior = TextServer.OVERRUN_TRIM_ELLIPSIS
		title.draw.connect(_draw_arrow.bind(column))
		title.pressed.connect(func() -> void: column_pressed.emit(column))
		add_child(title, false, INTERNAL_MODE_FRONT)
		_titles[column] = title


## Shows the rooms of [param model].
func set_model(model: BackendRoomListModel) -> void:
	_model = model
	_model.changed.connect(_on_model_changed)
	_refresh_rows()


## Whether somebody points at a row, so that no row may move.
func is_held() -> bool:
	return _hovered >= 0 or (has_focus() and not _selected.is_empty())


## The selected room, or [code]null[/code].
func get_selected() -> BackendListedRoom:
	var row := _model.find(_selected) if _model != null and not _selected.is_empty() else -1
	return _model.at(row) if row >= 0 else null


## Selects the room with [param id] and scrolls to it.
func select(id: String) -> void:
	var row := _model.find(id)
	if row >= 0:
		_select_row(row)


func scroll_to_top() -> void:
	_scroll_to(0.0)


## Scrolls so that [param pixels] are above the view.
func scroll_to(pixels: float) -> void:
	_scroll_to(pixels)


## Number of rooms, most of which have no row node.
func get_room_count() -> int:
	return _model.size()


## Height of all rows.
func get_content_height() -> float:
	return _row_height * _model.size()


## Shows in the titles what the rooms are sorted by.
func show_sort(column: BackendRoomColumns.Column, descending: bool) -> void:
	_sorted_by = column
	_descending = descending
	_update_titles()
	for title: Button in _titles.values():
		title.queue_redraw()


## Ids of the rooms in view, from top to bottom.
func get_visible_ids() -> PackedStringArray:
	var ids := PackedStringArray()
	if _model != null:
		var first := _first_row()
		for row: int in range(first, mini(first + _rows.size(), _model.size())):
			ids.append(_model.id_at(row))
	return ids


## Shows a round trip in milliseconds; a negative one is that of a server that does not answer.
func show_ping(id: String, milliseconds: float) -> void:
	_pings[id] = milliseconds
	for index: int in _rows.size():
		var row := _rows[index]
		if row.visible and row.listed != null and row.listed.id == id:
			row.show_ping(milliseconds)


func has_ping_of(id: String) -> bool:
	return _pings.has(id)


## Forgets all round trips, so that they are measured anew.
func forget_pings() -> void:
	_pings.clear()


## The row nodes, most of which show a room. Their number depends on the height alone.
func get_row_count() -> int:
	return _rows.size()


## Vertical place of a room within the rows, or NAN if it is not listed.
func get_row_position(id: String) -> float:
	var row := _model.find(id)
	return NAN if row < 0 else row * _row_height - _offset


func _process(delta: float) -> void:
	if absf(_velocity) > 1.0:
		_scroll_to(_offset + _velocity * delta)
		_velocity *= exp(-_FRICTION * delta)
	var held := is_held()
	if _last_held and not held:
		released.emit()
	_last_held = held


func _gui_input(event: InputEvent) -> void:
	var button := event as InputEventMouseButton
	var motion := event as InputEventMouseMotion
	var drag := event as InputEventScreenDrag
	var pan := event as InputEventPanGesture
	if button != null:
		_on_mouse_button(button)
	elif motion != null:
		_hover(_row_at(motion.position))
	elif drag != null:
		_drag += absf(drag.relative.y)
		_velocity = -drag.velocity.y
		_scroll_to(_offset - drag.relative.y)
		accept_event()
	elif pan != null:
		_scroll_to(_offset + pan.delta.y * _row_height)
		accept_event()
	else:
		_on_action(event)


func _on_mouse_button(event: InputEventMouseButton) -> void:
	match event.button_index:
		MOUSE_BUTTON_WHEEL_UP, MOUSE_BUTTON_WHEEL_DOWN:
			if event.pressed:
				var sign := -1.0 if event.button_index == MOUSE_BUTTON_WHEEL_UP else 1.0
				var factor := event.factor if event.factor > 0.0 else 1.0
				_velocity = 0.0
				_scroll_to(_offset + sign * _WHEEL_ROWS * _row_height * factor)
				_hover(_row_at(event.position))
				accept_event()
		MOUSE_BUTTON_LEFT:
			var is_touch := event.device == InputEvent.DEVICE_ID_EMULATION
			if event.pressed:
				_drag = 0.0
				_velocity = 0.0
			# A finger that scrolls selects nothing.
			if event.pressed != is_touch and _drag < _DRAG_THRESHOLD:
				_click(event)
			if is_touch and not event.pressed:
				_hover(-1)


func _click(event: InputEventMouseButton) -> void:
	var row := _row_at(event.position)
	if row < 0:
		return
	accept_event()
	if _columns.at(event.position.x - _body.position.x) == BackendRoomColumns.Column.FAVORITE:
		favorite_toggled.emit(_model.at(row))
		return
	_select_row(row)
	if event.double_click:
		activated.emit()


func _on_action(event: InputEvent) -> void:
	if _model == null or _model.size() == 0 or not event.is_pressed():
		return
	var row := _model.find(_selected)
	var page := maxi(int(_body.size.y / _row_height) - 1, 1)
	var wanted := row
	if event.is_action_pressed("ui_down", true):
		wanted = row + 1
	elif event.is_action_pressed("ui_up", true):
		wanted = row - 1
	elif event.is_action_pressed("ui_page_down", true):
		wanted = mini(maxi(row, 0) + page, _model.size() - 1)
	elif event.is_action_pressed("ui_page_up", true):
		wanted = maxi(row - page, 0)
	elif event.is_action_pressed("ui_home"):
		wanted = 0
	elif event.is_action_pressed("ui_end"):
		wanted = _model.size() - 1
	elif event.is_action_pressed("ui_select") and row >= 0:
		favorite_toggled.emit(_model.at(row))
		accept_event()
		return
	elif event.is_action_pressed("ui_accept") and row >= 0:
		accept_event()
		activated.emit()
		return
	# Beyond the first and the last row, the focus moves on.
	if wanted != row and wanted >= 0 and wanted < _model.size():
		accept_event()
		_select_row(wanted)


func _select_row(row: int) -> void:
	_selected = _model.id_at(row)
	var top := row * _row_height
	if top < _offset:
		_scroll_to(top)
	elif top + _row_height > _offset + _body.size.y:
		_scroll_to(top + _row_height - _body.size.y)
	_refresh_rows()
	for shown: BackendRoomRow in _rows:
		if shown.is_selected:
			accessibility_description = shown.describe()
	selection_changed.emit()


func _hover(row: int) -> void:
	if row == _hovered:
		return
	_hovered = row
	for index: int in _rows.size():
		_rows[index].is_hovered = _rows[index].visible and _bound[index] == row


func _row_at(at: Vector2) -> int:
	if _model == null or not _body.get_rect().has_point(at):
		return -1
	var row := int((at.y - _body.position.y + _offset) / _row_height)
	return row if row < _model.size() else -1


func _first_row() -> int:
	return int(_offset / _row_height)


func _scroll_to(offset: float) -> void:
	if _model == null:
		return
	var limit := maxf(get_content_height() - _body.size.y, 0.0)
	var clamped := clampf(offset, 0.0, limit)
	if clamped in [0.0, limit]:
		_velocity = 0.0
	if clamped == _offset:
		return
	_offset = clamped
	_bar.set_value_no_signal(_offset)
	_place_rows()
	view_changed.emit()


func _on_bar_moved(value: float) -> void:
	_velocity = 0.0
	_scroll_to(value)


func _on_model_changed() -> void:
	# The list is where it was before: the selected row, or else the first in view, stays in place.
	var anchor := _selected if not is_nan(_anchor_place) else _top_id
	var row := _model.find(anchor) if not anchor.is_empty() else -1
	_update_bar()
	if row >= 0 and _offset > 0.0:
		var place := _anchor_place if anchor == _selected else _top_place
		_offset = clampf(row * _row_height - place, 0.0, _bar.max_value - _bar.page)
	else:
		_offset = clampf(_offset, 0.0, maxf(_bar.max_value - _bar.page, 0.0))
	_bar.set_value_no_signal(_offset)
	if not _selected.is_empty() and _model.find(_selected) < 0:
		_selected = ""
	_refresh_rows()
	selection_changed.emit()
	view_changed.emit()


# Binds every row anew: rooms have changed, or the selection has.
func _refresh_rows() -> void:
	_bound.fill(-1)
	_place_rows()


# A row node keeps its room while it is in view: scrolling by one row binds one node.
func _place_rows() -> void:
	if _model == null or _rows.is_empty():
		return
	var first := _first_row()
	for row: int in range(first, first + _rows.size()):
		var index := row % _rows.size()
		var node := _rows[index]
		node.visible = row < _model.size()
		if not node.visible:
			_bound[index] = -1
			continue
		node.position.y = row * _row_height - _offset
		if _bound[index] != row:
			_bound[index] = row
			var listed := _model.at(row)
			node.show_room(listed)
			node.show_ping(_pings.get(listed.id, -1.0))
			node.is_selected = listed.id == _selected
		node.is_hovered = row == _hovered
	if first < _model.size():
		_top_id = _model.id_at(first)
		_top_place = first * _row_height - _offset
	var selected := _model.find(_selected) if not _selected.is_empty() else -1
	_anchor_place = NAN
	if selected >= 0:
		var place := selected * _row_height - _offset
		if place > -_row_height and place < _body.size.y:
			_anchor_place = place


func _update_bar() -> void:
	_bar.max_value = get_content_height()
	_bar.page = minf(_body.size.y, _bar.max_value)
	_bar.step = 1.0
	_bar.visible = _bar.max_value > _body.size.y


func _lay_out() -> void:
	if not is_node_ready():
		return
	var font := get_theme_font(&"font", &"Label")
	var font_size := get_theme_font_size(&"font_size", &"Label")
	var em := font.get_height(font_size)
	_row_height = ceilf(em + get_theme_constant(&"v_separation", &"Tree") + 8.0)
	var bar_width := _bar.get_combined_minimum_size().x
	var title_height := 0.0
	for title: Button in _titles.values():
		title_height = maxf(title_height, title.get_combined_minimum_size().y)
	var mirrored := is_layout_rtl()
	_body.position = Vector2(bar_width if mirrored else 0.0, title_height)
	_body.size = Vector2(size.x - bar_width, maxf(size.y - title_height, 0.0))
	_bar.position = Vector2(0.0 if mirrored else size.x - bar_width, title_height)
	_bar.size = Vector2(bar_width, _body.size.y)
	_columns.lay_out(_body.size.x, em, mirrored)
	for column: BackendRoomColumns.Column in _titles:
		var title := _titles[column]
		title.visible = column in _columns.shown
		if title.visible:
			var place := _columns.rect(column, title_height)
			title.position = place.position + Vector2(_body.position.x, 0.0)
			title.size = place.size
	_make_rows()
	if _model != null:
		_update_bar()
		_offset = clampf(_offset, 0.0, maxf(_bar.max_value - _bar.page, 0.0))
	_refresh_rows()


func _make_rows() -> void:
	var wanted := int(ceilf(_body.size.y / _row_height)) + 1
	while _rows.size() < wanted:
		var row := BackendRoomRow.new(_columns)
		row.hide()
		_body.add_child(row, false, INTERNAL_MODE_FRONT)
		_rows.append(row)
	while _rows.size() > wanted:
		_rows.pop_back().queue_free()
	_bound.resize(wanted)
	for row: BackendRoomRow in _rows:
		row.size = Vector2(_body.size.x, _row_height)
		row.lay_out()


func _update_titles() -> void:
	for column: BackendRoomColumns.Column in _titles:
		var title := _titles[column]
		var sorts := column in sortable
		title.focus_mode = FOCUS_ALL if sorts else FOCUS_NONE
		title.mouse_filter = MOUSE_FILTER_STOP if sorts else MOUSE_FILTER_IGNORE
		for state: StringName in [&"normal", &"hover", &"pressed"]:
			var style := get_theme_stylebox(
				StringName("title_button_%s" % (state if sorts else &"normal")), &"Tree"
			)
			if column == _sorted_by:
				style = _with_arrow(style, title)
			title.add_theme_stylebox_override(state, style)
		for state: StringName in [&"font_color", &"font_hover_color", &"font_pressed_color"]:
			var color := get_theme_color(&"title_button_color", &"Tree")
			title.add_theme_color_override(state, color)


# No text is drawn where the arrow is.
func _with_arrow(style: StyleBox, title: Button) -> StyleBox:
	var side := SIDE_LEFT if title.is_layout_rtl() else SIDE_RIGHT
	var wider: StyleBox = style.duplicate()
	wider.set_content_margin(side, style.get_margin(side) + _arrow_size(title) * 2.6)
	return wider


func _arrow_size(title: Button) -> float:
	return title.get_combined_minimum_size().y * 0.22


func _draw_arrow(column: BackendRoomColumns.Column) -> void:
	if column != _sorted_by:
		return
	var title := _titles[column]
	var side := _arrow_size(title)
	var x := side * 1.6 if title.is_layout_rtl() else title.size.x - side * 1.6
	var at := Vector2(x, title.size.y / 2.0)
	var tip := -side if not _descending else side
	title.draw_colored_polygon(
		PackedVector2Array(
			[
				at + Vector2(0, tip * 0.7),
				at + Vector2(side, -tip * 0.5),
				at + Vector2(-side, -tip * 0.5)
			]
		),
		get_theme_color(&"title_button_color", &"Tree")
	)


func _notification(what: int) -> void:
	match what:
		NOTIFICATION_READY, NOTIFICATION_THEME_CHANGED:
			_update_titles()
			_lay_out()
		NOTIFICATION_RESIZED:
			_lay_out()
		NOTIFICATION_LAYOUT_DIRECTION_CHANGED, NOTIFICATION_TRANSLATION_CHANGED:
			# The children do not have the new direction yet, and mirror their places when they get it.
			_lay_out.call_deferred()
			_update_titles.call_deferred()
		NOTIFICATION_MOUSE_EXIT:
			_hover(-1)
		NOTIFICATION_DRAW:
			draw_style_box(get_theme_stylebox(&"panel", &"Tree"), Rect2(Vector2.ZERO, size))
			if has_focus() and _selected.is_empty():
				draw_style_box(get_theme_stylebox(&"focus", &"Tree"), Rect2(Vector2.ZERO, size))
		NOTIFICATION_FOCUS_ENTER, NOTIFICATION_FOCUS_EXIT:
			queue_redraw()


func _get_minimum_size() -> Vector2:
	return Vector2(240.0, _row_height * 4.0)
