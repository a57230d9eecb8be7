class_name BackendFormField
extends VBoxContainer
## A titled [LineEdit] with room for an error beneath it.

## Emitted when Enter is pressed in the field.
signal submitted

@export var title := "":
	set(value):
		title = value
		_title.text = value
		edit.accessibility_name = value
@export var placeholder := "":
	set(value):
		placeholder = value
		edit.placeholder_text = value
@export var max_length := 0:
	set(value):
		max_length = value
		edit.max_length = value
@export var secret := false:
	set(value):
		secret = value
		edit.secret = value
@export var keyboard := LineEdit.KEYBOARD_TYPE_DEFAULT:
	set(value):
		keyboard = value
		edit.virtual_keyboard_type = value

## The text as it was typed.
var text: String:
	get:
		return edit.text
	set(value):
		edit.text = value
## The input itself.
var edit := LineEdit.new()
var _title := Label.new()
var _error := Label.new()


func _init() -> void:
	add_theme_constant_override(&"separation", 4)
	_error.autowrap_mode = TextServer.AUTOWRAP_WORD_SMART
	_error.hide()
	for part: Control in [_title, edit, _error]:
		add_child(part, false, INTERNAL_MODE_FRONT)
	edit.text_submitted.connect(func(_text: String) -> void: submitted.emit())
	edit.text_changed.connect(func(_text: String) -> void: show_error(""))


func _notification(what: int) -> void:
	if what == NOTIFICATION_THEME_CHANGED:
		_error.add_theme_color_override(&"font_color", BackendUiTheme.color(self, &"error_color"))


## Shows [param message] beneath the field, or nothing if it is empty.
func show_error(message: String) -> void:
	_error.text = message
	_error.visible = not message.is_empty()
	edit.accessibility_description = message


## What is shown beneath the field.
func get_error() -> String:
	return _error.text
