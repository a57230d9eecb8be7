class_name BackendPrompt
extends VBoxContainer
## Asks for one text, such as a password, in place of the rest of a scene.

## The player has entered [param text].
signal submitted(text: String)
## The player does not want to answer.
signal cancelled

var _title := Label.new()
var _subject := Label.new()
var _field := BackendFormField.new()
var _ok := Button.new()
var _cancel := Button.new()


func _init() -> void:
	alignment = BoxContainer.ALIGNMENT_CENTER
	size_flags_horizontal = SIZE_SHRINK_CENTER
	size_flags_vertical = SIZE_EXPAND_FILL
	custom_minimum_size.x = 320.0
	add_theme_constant_override(&"separation", 12)
	_title.theme_type_variation = &"HeaderMedium"
	_title.autowrap_mode = TextServer.AUTOWRAP_WORD_SMART
	_subject.auto_translate_mode = AUTO_TRANSLATE_MODE_DISABLED
	_subject.text_overrun_behavior = TextServer.OVERRUN_TRIM_ELLIPSIS
	_ok.text = "Join"
	_cancel.text = "Cancel"
	var buttons := HBoxContainer.new()
	buttons.add_theme_constant_override(&"separation", 12)
	for button: Button in [_ok, _cancel]:
		button.size_flags_horizontal = SIZE_EXPAND_FILL
		buttons.add_child(button)
	for part: Control in [_title, _subject, _field, buttons]:
		add_child(part, false, INTERNAL_MODE_FRONT)
	_field.submitted.connect(_submit)
	_ok.pressed.connect(_submit)
	_cancel.pressed.connect(func() -> void: cancelled.emit())
	hide()


func _unhandled_input(event: InputEvent) -> void:
	if is_visible_in_tree() and event.is_action_pressed("ui_cancel"):
		get_viewport().set_input_as_handled()
		cancelled.emit()


## Shows the question. [param subject] is a name that is not translated.
func ask(
	title: String, subject: String, field_title: String, secret: bool, max_length: int
) -> void:
	_title.text = title
	_subject.text = subject
	_subject.visible = not subject.is_empty()
	_field.title = field_title
	_field.secret = secret
	_field.max_length = max_length
	_field.text = ""
	_field.show_error("")
	show()
	_field.edit.grab_focus()


## Hides the question, and forgets the answer.
func close() -> void:
	hide()
	_field.text = ""


## Whether what is entered is hidden.
func is_secret() -> bool:
	return _field.secret


## Shows what is wrong with the answer.
func show_error(message: String) -> void:
	_field.show_error(message)
	_field.edit.grab_focus()
	_field.edit.select_all()


## While busy, the answer cannot be changed or sent again.
func set_busy(busy: bool) -> void:
	_ok.disabled = busy
	_field.edit.editable = not busy


func _submit() -> void:
	if _field.text.is_empty() or not _field.secret and _field.text.strip_edges().is_empty():
		show_error("Enter something.")
	elif not _ok.disabled:
		# A password may begin or end with a blank.
		submitted.emit(_field.text if _field.secret else _field.text.strip_edges())
