class_name BackendRoomForm
extends BackendScrollingContent
## Asks what a new room is to be like, and shows that its server is starting.

## The player wants the room of [param options].
signal submitted(options: BackendRoomOptions)
## The player wants no room, or does not want to wait for it any longer.
signal cancelled

const _MAX_NAME := 64
const _MAX_PASSWORD := 64

var _options: BackendRoomOptions

@onready var _name: BackendFormField = $Rows/Name
@onready var _places: Control = $Rows/Places
@onready var _count: SpinBox = $Rows/Places/Count
@onready var _password: BackendFormField = $Rows/Password
@onready var _unlisted: CheckBox = $Rows/Unlisted
@onready var _progress: ProgressBar = $Rows/Progress
@onready var _status: Label = $Rows/Status
@onready var _create: Button = $Rows/Buttons/Create
@onready var _cancel: Button = $Rows/Buttons/Cancel


func _ready() -> void:
	super()
	_name.max_length = _MAX_NAME
	_password.max_length = _MAX_PASSWORD
	for field: BackendFormField in [_name, _password]:
		field.submitted.connect(_submit)
	_create.pressed.connect(_submit)
	_cancel.pressed.connect(func() -> void: cancelled.emit())
	hide()


func _unhandled_input(event: InputEvent) -> void:
	if is_visible_in_tree() and event.is_action_pressed("ui_cancel"):
		get_viewport().set_input_as_handled()
		cancelled.emit()


## Shows the form with what the game suggests. The number of players is asked for if the game allows
## more than two.
func ask(suggested: BackendRoomOptions) -> void:
	_options = suggested.duplicate()
	_name.text = suggested.room_name
	_places.visible = suggested.max_players > 2
	_count.min_value = 2
	_count.max_value = maxi(suggested.max_players, 2)
	_count.value = _count.max_value
	_password.text = suggested.password
	_unlisted.button_pressed = suggested.visibility != BackendServerRegistration.VISIBILITY_PUBLIC
	set_busy(false)
	show_error("")
	show()
	_name.edit.grab_focus()
	_name.edit.select_all()


## Hides the form, and forgets what was entered.
func close() -> void:
	hide()
	_options = null
	_password.text = ""


## While busy, the server of the room is starting.
func set_busy(busy: bool) -> void:
	_create.disabled = busy
	_progress.visible = busy
	_count.editable = not busy
	_unlisted.disabled = busy
	for field: BackendFormField in [_name, _password]:
		field.edit.editable = not busy
	if busy:
		_show_status("The server is starting …", &"secondary_color")


## Shows why there is no room.
func show_error(message: String) -> void:
	_show_status(message, &"error_color")


func _show_status(message: String, color: StringName) -> void:
	_status.text = message
	_status.visible = not message.is_empty()
	_status.add_theme_color_override(&"font_color", BackendUiTheme.color(self, color))


func _submit() -> void:
	if _create.disabled:
		return
	var room_name := _name.text.strip_edges()
	if room_name.is_empty():
		_name.show_error("Enter a name.")
		_name.edit.grab_focus()
		return
	_name.show_error("")
	_options.room_name = room_name
	if _places.visible:
		_options.max_players = int(_count.value)
	_options.password = _password.text
	if not _unlisted.button_pressed:
		_options.visibility = BackendServerRegistration.VISIBILITY_PUBLIC
	elif _options.visibility == BackendServerRegistration.VISIBILITY_PUBLIC:
		_options.visibility = BackendServerRegistration.VISIBILITY_UNLISTED
	submitted.emit(_options)
