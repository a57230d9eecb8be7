@tool
extends HFlowContainer
## Switches for faults between the games and the local backend.

signal switched(faults: Dictionary)
signal expire_tokens_requested

const MAX_LATENCY_MS := 60_000
const ERRORS: Array[Array] = [
	["No errors", ""],
	["500 Internal Server Error", "internal"],
	["429 Too Many Requests", "rate_limited"],
]

var _latency := SpinBox.new()
var _offline := CheckBox.new()
var _error := OptionButton.new()
var _lost_replies := CheckBox.new()
var _share := SpinBox.new()
var _expire_button := Button.new()
var _reset_button := Button.new()
var _is_resetting := false


func _init() -> void:
	_set_up_number(_latency, "Latency", 0, MAX_LATENCY_MS, 0)
	_latency.step = 10
	_latency.suffix = "ms"
	_latency.tooltip_text = "Each request takes that much longer"
	_offline.text = "Offline"
	_offline.tooltip_text = "Connections are cut and refused, as when the backend is not running"
	_offline.toggled.connect(func(_on: bool) -> void: _emit())
	for error: Array in ERRORS:
		_error.add_item(error[0])
	_error.tooltip_text = "Requests fail, and do not reach the backend"
	_error.accessibility_name = "Errors"
	_error.item_selected.connect(func(_index: int) -> void: _emit())
	_lost_replies.text = "Lost replies"
	_lost_replies.tooltip_text = "The backend does what it is asked, and the game does not learn of it"
	_lost_replies.toggled.connect(func(_on: bool) -> void: _emit())
	_set_up_number(_share, "Share of the requests with errors and lost replies", 1, 100, 100)
	_share.suffix = "%"
	_share.tooltip_text = _share.get_line_edit().accessibility_name
	_expire_button.text = "Expire Tokens"
	_expire_button.tooltip_text = "The access tokens of all players are refused as expired from now on"
	_expire_button.pressed.connect(expire_tokens_requested.emit)
	_reset_button.text = "No Faults"
	_reset_button.tooltip_text = "Switches everything off"
	_reset_button.pressed.connect(reset)
	var latency_label := Label.new()
	latency_label.text = "Latency"
	var share_label := Label.new()
	share_label.text = "for"
	for group: Array in [
		[latency_label, _latency],
		[_offline],
		[_error, _lost_replies, share_label, _share],
		[_expire_button, _reset_button]
	]:
		var box := HBoxContainer.new()
		for control: Control in group:
			box.add_child(control)
		add_child(box)
	_reset_button.disabled = true


## The state of the switches, as the program takes it.
func faults() -> Dictionary:
	var switches := {
		"latency_ms": int(_latency.value),
		"offline": _offline.button_pressed,
		"lost_replies": _lost_replies.button_pressed,
		"share": int(_share.value),
	}
	var error: String = ERRORS[_error.selected][1]
	if not error.is_empty():
		switches["error"] = error
	return switches


func has_faults() -> bool:
	return (
		_latency.value > 0
		or _offline.button_pressed
		or _error.selected > 0
		or _lost_replies.button_pressed
	)


## Switches everything off.
func reset() -> void:
	_is_resetting = true
	_latency.value = 0
	_offline.button_pressed = false
	_error.select(0)
	_lost_replies.button_pressed = false
	_share.value = 100
	_is_resetting = false
	_emit()


func _set_up_number(field: SpinBox, label: String, low: int, high: int, value: int) -> void:
	field.min_value = low
	field.max_value = high
	field.value = value
	field.get_line_edit().accessibility_name = label
	field.value_changed.connect(func(_value: float) -> void: _emit())


func _emit() -> void:
	if _is_resetting:
		return
	_reset_button.disabled = not has_faults()
	switched.emit(faults())
