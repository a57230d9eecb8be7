class_name BackendServerBrowser
extends PanelContainer
## A server browser to drop into a menu: lists rooms, filters, refreshes, and asks to join one.
## Takes its looks from
## the game's theme.

## A room was chosen to be joined.
signal join_requested(room: BackendRoom)

## Where to ask for rooms.
@export var rooms: BackendRooms

var _page: BackendRoomPage

@onready var _list: Tree = %List
@onready var _not_full: CheckBox = %NotFull
@onready var _refresh: Button = %Refresh
@onready var _join: Button = %Join
@onready var _status: Label = %Status


func _ready() -> void:
	for column: int in 3:
		_list.set_column_title(column, ["Server", "Map", "Players"][column])
		_list.set_column_title_alignment(column, HORIZONTAL_ALIGNMENT_LEFT)
	_list.set_column_expand_ratio(0, 3)
	_refresh.pressed.connect(refresh)
	_not_full.toggled.connect(func(_on: bool) -> void: refresh())
	_join.pressed.connect(_request_join)
	_list.item_activated.connect(_request_join)
	_list.item_selected.connect(func() -> void: _join.disabled = false)


## Lists the rooms anew.
func refresh() -> void:
	var query := BackendRoomQuery.new()
	query.not_full = _not_full.button_pressed
	_refresh.disabled = true
	_status.text = "Looking for servers …"
	var page: BackendRoomPage = await rooms.list_rooms(query).wait()
	if not is_inside_tree():
		return
	_refresh.disabled = false
	if page.failed():
		_status.text = page.error.message
		return
	_fill(page)


## Whether a list is on its way.
func is_busy() -> bool:
	return _refresh.disabled


func _fill(page: BackendRoomPage) -> void:
	_page = page
	_join.disabled = true
	_list.clear()
	var root := _list.create_item()
	for index: int in page.size():
		var room := page.get_room(index)
		var item := _list.create_item(root)
		item.set_metadata(0, index)
		item.set_text(0, room.name)
		item.set_text(1, room.map)
		item.set_text(2, "%d / %d" % [room.players, room.max_players])
	_status.text = "No servers are running." if page.size() == 0 else "%d found" % page.size()


func _request_join() -> void:
	var item := _list.get_selected()
	if item != null:
		join_requested.emit(_page.get_room(item.get_metadata(0)))
