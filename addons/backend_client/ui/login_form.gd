class_name BackendLoginForm
extends PanelContainer
## A login form to drop into a menu: play as a guest, or with e-mail address and password. Logs
## [member session] in;
## listen to the session's own [code]logged_in[/code] signal. Takes its looks from the game's theme.

## The session to log in.
@export var session: BackendSession

@onready var _display_name: LineEdit = %DisplayName
@onready var _email: LineEdit = %Email
@onready var _password: LineEdit = %Password
@onready var _guest: Button = %Guest
@onready var _log_in: Button = %LogIn
@onready var _register: Button = %Register
@onready var _status: Label = %Status


func _ready() -> void:
	_guest.pressed.connect(
		func() -> void: _run(session.login_anonymous(_display_name.text.strip_edges()))
	)
	_log_in.pressed.connect(
		func() -> void: _run(session.login_with_password(_email.text, _password.text))
	)
	_register.pressed.connect(
		func() -> void:
			_run(session.register(_email.text, _password.text, _display_name.text.strip_edges()))
	)
	_password.text_submitted.connect(func(_text: String) -> void: _log_in.pressed.emit())


func _run(request: BackendRequest) -> void:
	_set_busy(true)
	_status.text = "Connecting …"
	var login: BackendLoginResult = await request.wait()
	# The form may have been freed with its menu meanwhile.
	if not is_inside_tree():
		return
	_set_busy(false)
	_password.clear()
	_status.text = "" if login.ok() else login.error.message


func _set_busy(busy: bool) -> void:
	for button: Button in [_guest, _log_in, _register]:
		button.disabled = busy
