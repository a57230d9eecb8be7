class_name BackendRoomFilters
extends HFlowContainer
## What a player looks for in a list of rooms: a text, a list, a map, a mode, a region, and free
## places.

## The player has changed something.
signal changed

## Which rooms are listed.
enum Tab { ALL, FAVORITES, HISTORY }

const _SEARCH_DELAY := 0.2

## The list that the player has chosen.
var tab: Tab:
	get:
		return _tab.selected as Tab
var _search_in := -1.0

@onready var _search: LineEdit = $Search
@onready var _tab: OptionButton = $Tab
@onready var _map: OptionButton = $Map
@onready var _mode: OptionButton = $Mode
@onready var _region: OptionButton = $Region
@onready var _not_full: CheckBox = $NotFull
@onready var _not_empty: CheckBox = $NotEmpty


func _ready() -> void:
	_search.text_changed.connect(func(_text: String) -> void: _search_in = _SEARCH_DELAY)
	_search.text_submitted.connect(func(_text: String) -> void: _change())
	for options: OptionButton in [_tab, _map, _mode, _region]:
		options.item_selected.connect(func(_index: int) -> void: _change())
	for toggle: CheckBox in [_not_full, _not_empty]:
		toggle.toggled.connect(func(_on: bool) -> void: _change())


func _process(delta: float) -> void:
	if _search_in >= 0.0:
		_search_in -= delta
		if _search_in < 0.0:
			_change()


## Sets what the player looks for on [param query].
func fill(query: BackendRoomQuery) -> void:
	query.search = _search.text.strip_edges().left(64)
	query.not_full = _not_full.button_pressed
	query.not_empty = _not_empty.button_pressed
	query.map = _chosen(_map)
	query.mode = _chosen(_mode)
	query.region = _chosen(_region)


## Offers the values that the rooms of [param model] have had so far.
func offer(model: BackendRoomListModel) -> void:
	_offer(_map, "Any map", model.maps)
	_offer(_mode, "Any mode", model.modes)
	_offer(_region, "Any region", model.regions)


## Looks for all rooms.
func clear() -> void:
	_search.text = ""
	_not_full.set_pressed_no_signal(false)
	_not_empty.set_pressed_no_signal(false)
	for options: OptionButton in [_map, _mode, _region]:
		options.select(0 if options.item_count > 0 else -1)
	_tab.select(Tab.ALL)
	_change()


func _change() -> void:
	_search_in = -1.0
	changed.emit()


func _chosen(options: OptionButton) -> String:
	return options.get_item_text(options.selected) if options.selected > 0 else ""


# If there are at least two to choose from.
func _offer(options: OptionButton, any: String, values: Dictionary[String, bool]) -> void:
	options.visible = values.size() > 1
	if options.item_count == values.size() + 1:
		return
	var chosen := _chosen(options)
	options.clear()
	options.add_item(any)
	var sorted: Array[String] = values.keys()
	sorted.sort()
	for value: String in sorted:
		options.add_item(value)
		options.set_item_auto_translate_mode(options.item_count - 1, AUTO_TRANSLATE_MODE_DISABLED)
		if value == chosen:
			options.select(options.item_count - 1)
