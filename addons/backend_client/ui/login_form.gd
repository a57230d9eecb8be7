class_name BackendLoginForm
extends BackendScenePanel
## A login form to drop into a menu: log in, register, play as a guest, and reset a forgotten
## password.
##
## Resumes the session of the last run, if there is one. [method show_link_account] lets a guest add
## an e-mail address and a password. Listen to [signal BackendSession.logged_in] to go on. It takes
## its looks from the theme of the game.

## Emitted when a guest account got an e-mail address and a password.
signal account_linked(account: BackendAccount)
## Emitted when the player leaves the form that links a guest account, without having done so.
signal link_cancelled

## What the form asks for.
enum Mode { LOG_IN, REGISTER, GUEST, REQUEST_CODE, RESET_PASSWORD, LINK_ACCOUNT }

const CONTENT := preload("res://addons/backend_client/ui/login_form_content.tscn")
const MIN_PASSWORD := 8
const MAX_PASSWORD := 128

const _TITLES: Dictionary[Mode, String] = {
	Mode.LOG_IN: "Log in",
	Mode.REGISTER: "Create an account",
	Mode.GUEST: "Play as a guest",
	Mode.REQUEST_CODE: "Forgotten password",
	Mode.RESET_PASSWORD: "Choose a new password",
	Mode.LINK_ACCOUNT: "Keep your progress",
}
const _EXPLANATIONS: Dictionary[Mode, String] = {
	Mode.GUEST: "You can add an e-mail address later and keep your progress.",
	Mode.REQUEST_CODE: "We send a code to your e-mail address.",
	Mode.RESET_PASSWORD: "Enter the code from the e-mail.",
	Mode.LINK_ACCOUNT: "With an e-mail address and a password you can log in on any device.",
}
const _ACTIONS: Dictionary[Mode, String] = {
	Mode.LOG_IN: "Log in",
	Mode.REGISTER: "Create an account",
	Mode.GUEST: "Play",
	Mode.REQUEST_CODE: "Send the code",
	Mode.RESET_PASSWORD: "Set the password",
	Mode.LINK_ACCOUNT: "Add to my account",
}
## The fields of each mode, in the order in which they are filled in.
const _FIELDS: Dictionary[Mode, Array] = {
	Mode.LOG_IN: ["email", "password"],
	Mode.REGISTER: ["display_name", "email", "password"],
	Mode.GUEST: ["display_name"],
	Mode.REQUEST_CODE: ["email"],
	Mode.RESET_PASSWORD: ["email", "code", "password"],
	Mode.LINK_ACCOUNT: ["email", "password"],
}
## The field that a code of the backend is about.
const _FIELD_OF_CODE: Dictionary[String, String] = {
	"account_exists": "email",
	"already_linked": "email",
	"mail_code_invalid": "code",
}

## The session to log in.
@export var session: BackendSession
## If [code]true[/code], the session of the last run is resumed when the form is ready.
@export var restore_session := true

## What the form asks for now.
var mode := Mode.LOG_IN

var _request: BackendRequest
var _fields: Dictionary[String, BackendFormField] = {}

@onready var _title: Label = _content.get_node("%Title")
@onready var _explanation: Label = _content.get_node("%Explanation")
@onready var _status: Label = _content.get_node("%Status")
@onready var _submit: Button = _content.get_node("%Submit")
@onready var _cancel: Button = _content.get_node("%Cancel")
@onready var _to_register: Button = _content.get_node("%ToRegister")
@onready var _to_reset: Button = _content.get_node("%ToReset")
@onready var _to_code: Button = _content.get_node("%ToCode")
@onready var _back: Button = _content.get_node("%Back")
@onready var _guest: Button = _content.get_node("%Guest")
@onready var _separator: Control = _content.get_node("%Separator")


func _get_content() -> PackedScene:
	return CONTENT


func _ready() -> void:
	for field: BackendFormField in _content.find_children("*", "BackendFormField"):
		_fields[String(field.name).to_snake_case()] = field
		field.submitted.connect(_on_field_submitted.bind(field))
	_submit.pressed.connect(submit)
	_cancel.pressed.connect(cancel)
	_to_register.pressed.connect(show_mode.bind(Mode.REGISTER))
	_to_reset.pressed.connect(show_mode.bind(Mode.REQUEST_CODE))
	_to_code.pressed.connect(show_mode.bind(Mode.RESET_PASSWORD))
	_guest.pressed.connect(show_mode.bind(Mode.GUEST))
	_back.pressed.connect(_go_back)
	show_mode(Mode.LOG_IN)
	if restore_session and session != null and not session.auto_restore:
		restore()


func _unhandled_key_input(event: InputEvent) -> void:
	if event.is_action_pressed("ui_cancel") and is_visible_in_tree():
		if is_busy():
			cancel()
		elif mode != Mode.LOG_IN:
			_go_back()
		else:
			return
		get_viewport().set_input_as_handled()


## Resumes the session of the last run. Without one, the form stays as it is.
func restore() -> void:
	if session == null or session.is_logged_in():
		return
	var login: BackendLoginResult = await _wait(session.restore(), "Resuming your session …")
	if login != null and login.failed() and login.error.code != "not_logged_in":
		_show_failure(login.error)


## Shows another part of the form, without what was typed as a password and without errors.
func show_mode(wanted: Mode) -> void:
	mode = wanted
	var shown: Array = _FIELDS[mode]
	for key: String in _fields:
		_fields[key].visible = key in shown
		_fields[key].show_error("")
	_fields["password"].text = ""
	_fields["code"].text = ""
	_fields["password"].title = "New password" if mode == Mode.RESET_PASSWORD else "Password"
	_fields["password"].placeholder = "" if mode == Mode.LOG_IN else "8 characters or more"
	_fields["display_name"].placeholder = "Chosen for you if empty" if mode == Mode.GUEST else ""
	_title.text = _TITLES[mode]
	_explanation.text = _EXPLANATIONS.get(mode, "")
	_explanation.visible = not _explanation.text.is_empty()
	_submit.text = _ACTIONS[mode]
	for button: Control in [_to_register, _to_reset, _guest, _separator]:
		button.visible = mode == Mode.LOG_IN
	_to_code.visible = mode == Mode.REQUEST_CODE
	_back.visible = mode != Mode.LOG_IN
	_show_status("", &"secondary_color")
	if is_visible_in_tree():
		_fields[shown[0]].edit.grab_focus()


## Lets a guest who is logged in add an e-mail address and a password.
func show_link_account() -> void:
	show_mode(Mode.LINK_ACCOUNT)


## Whether a call to the backend is under way.
func is_busy() -> bool:
	return _request != null


## Gives up the call that is under way.
func cancel() -> void:
	if _request != null:
		_request.cancel()


## Checks the fields and sends them. Does nothing while a call is under way.
func submit() -> void:
	if is_busy() or not _is_filled_in():
		return
	if session == null:
		push_error('BackendLoginForm needs a session: assign "Session"')
		return
	var email := _text("email").strip_edges()
	match mode:
		Mode.LOG_IN:
			_log_in(session.login_with_password(email, _text("password")))
		Mode.REGISTER:
			_log_in(session.register(email, _text("password"), _text("display_name").strip_edges()))
		Mode.GUEST:
			_log_in(session.login_anonymous(_text("display_name").strip_edges()))
		Mode.REQUEST_CODE:
			_request_code(email)
		Mode.RESET_PASSWORD:
			_reset_password(email, _text("code").strip_edges(), _text("password"))
		Mode.LINK_ACCOUNT:
			_link_account(email, _text("password"))


func _log_in(request: BackendRequest) -> void:
	var login: BackendLoginResult = await _wait(request, "Connecting …")
	if login == null:
		return
	if login.failed():
		_show_failure(login.error)
	else:
		show_mode(Mode.LOG_IN)


func _request_code(email: String) -> void:
	var sent: BackendResult = await _wait(session.request_password_reset(email), "Connecting …")
	if sent == null:
		return
	if sent.failed():
		_show_failure(sent.error)
		return
	show_mode(Mode.RESET_PASSWORD)
	_fields["code"].edit.grab_focus()
	_show_status("If there is such an account, the code is on its way.", &"success_color")


func _reset_password(email: String, code: String, password: String) -> void:
	var changed: BackendResult = await _wait(
		session.reset_password(email, code, password), "Connecting …"
	)
	if changed == null:
		return
	if changed.failed():
		_show_failure(changed.error)
		return
	show_mode(Mode.LOG_IN)
	_log_in(session.login_with_password(email, password))


func _link_account(email: String, password: String) -> void:
	var account: BackendAccount = await _wait(
		session.link_password(email, password), "Connecting …"
	)
	if account == null:
		return
	if account.failed():
		_show_failure(account.error)
		return
	show_mode(Mode.LOG_IN)
	account_linked.emit(account)


## The result of a call, or null if the form was freed meanwhile or the player gave the call up.
func _wait(request: BackendRequest, message: String) -> Object:
	_request = request
	_set_busy(true)
	_show_status(message, &"secondary_color")
	var result: Object = await request.wait()
	if not is_inside_tree():
		return null
	_request = null
	_set_busy(false)
	_show_status("", &"secondary_color")
	var error: BackendError = result.get(&"error")
	return null if error != null and error.code == "cancelled" else result


func _set_busy(busy: bool) -> void:
	for control: BaseButton in [_submit, _guest, _to_register, _to_reset, _to_code, _back]:
		control.disabled = busy
	for key: String in _fields:
		_fields[key].edit.editable = not busy
	_cancel.visible = busy


func _is_filled_in() -> bool:
	var wrong: Array[String] = []
	for key: String in _FIELDS[mode]:
		var problem := _problem_of(key)
		_fields[key].show_error(problem)
		if not problem.is_empty():
			wrong.append(key)
	if not wrong.is_empty():
		_fields[wrong[0]].edit.grab_focus()
	return wrong.is_empty()


func _problem_of(key: String) -> String:
	var typed := _text(key)
	match key:
		"display_name":
			if typed.strip_edges().is_empty() and mode != Mode.GUEST:
				return "Enter a name."
		"email":
			if not typed.contains("@"):
				return "Enter your e-mail address."
		"code":
			if typed.strip_edges().is_empty():
				return "Enter the code from the e-mail."
		"password":
			if mode == Mode.LOG_IN:
				return "Enter your password." if typed.is_empty() else ""
			if typed.length() < MIN_PASSWORD or typed.length() > MAX_PASSWORD:
				return "The password needs 8 to 128 characters."
	return ""


func _show_failure(error: BackendError) -> void:
	var field := error.field.trim_prefix("new_")
	if field.is_empty():
		field = _FIELD_OF_CODE.get(error.code, "")
	var message := BackendUiErrors.text_of(error)
	if field in _FIELDS[mode]:
		_fields[field].show_error(message)
		_fields[field].edit.grab_focus()
	else:
		_show_status(message, &"error_color")


func _show_status(message: String, color: StringName) -> void:
	_status.text = message
	_status.visible = not message.is_empty()
	_status.add_theme_color_override(&"font_color", BackendUiTheme.color(self, color))


func _go_back() -> void:
	var was := mode
	show_mode(Mode.REQUEST_CODE if was == Mode.RESET_PASSWORD else Mode.LOG_IN)
	if was == Mode.LINK_ACCOUNT:
		link_cancelled.emit()


func _on_field_submitted(field: BackendFormField) -> void:
	var shown: Array = _FIELDS[mode]
	var at := shown.find(String(field.name).to_snake_case())
	if at + 1 < shown.size():
		_fields[shown[at + 1]].edit.grab_focus()
	else:
		submit()


func _text(key: String) -> String:
	return _fields[key].text
