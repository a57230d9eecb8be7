@tool
extends RefCounted
## The backend on this machine: one process, with its data in a folder that git ignores.

signal state_changed
signal line_printed(text: String, is_error: bool)
## An admin key was created. The operator's page needs one.
signal admin_key_created(key: String)

enum State { STOPPED, STARTING, RUNNING, STOPPING, FAILED }

const BackendProgram := preload("backend_program.gd")
const ChildProcess := preload("child_process.gd")
const FreePort := preload("free_port.gd")

const READY := "listening on "

var state := State.STOPPED
## Base URL while it runs.
var url := ""
## Why it failed, in one line.
var error := ""
var process: ChildProcess

var _folder: String
var _port := 0
var _last_line := ""
## The first line that begins like an error of the program.
var _error_line := ""
var _admin_key := ""
var _admin_keys: ChildProcess


## Keeps everything in [param folder], an absolute path.
func _init(folder: String) -> void:
	_folder = folder


## File with the server key. The backend writes it when it is started for the first time.
func server_key_file() -> String:
	return _folder.path_join("server.key")


## The address in its command line.
func listen_address() -> String:
	return "127.0.0.1:%d" % _port


func is_active() -> bool:
	return process != null and process.is_running


## Starts `backend-server serve` on [param port], or on another if that is taken.
func start(port: int, arguments: PackedStringArray) -> void:
	if is_active():
		return
	error = ""
	_last_line = ""
	_error_line = ""
	# The folder may be another one since.
	_admin_key = ""
	var program := BackendProgram.find()
	if program.path.is_empty():
		_fail(program.error)
		return
	var made := DirAccess.make_dir_recursive_absolute(_folder)
	if made != OK:
		_fail("The folder %s cannot be created: %s." % [_folder, error_string(made)])
		return
	_port = FreePort.from(port)
	var all: PackedStringArray = ["serve", "--listen", listen_address(), "--log", "text"]
	all.append_array(["--database", database(), "--server-key-file", server_key_file()])
	all.append_array(["--issuer", _setting("backend_client/auth/issuer", "backend_client")])
	all.append_array(["--game", _setting("backend_client/auth/game", "default")])
	all.append_array(arguments)
	process = ChildProcess.new()
	process.name = "backend"
	process.line_printed.connect(_on_line_printed)
	process.ended.connect(_on_ended)
	var started := process.start(program.path, all, ChildProcess.without_backend_variables())
	if started != OK:
		_fail("%s cannot be started: %s." % [program.path, error_string(started)])
		return
	_set_state(State.STARTING)


## Ends it in order. On Windows, which has no SIGTERM, without warning: the database survives that.
func stop() -> void:
	if not is_active():
		return
	_set_state(State.STOPPING)
	if ChildProcess.can_terminate():
		process.terminate()
	else:
		process.kill()


func poll() -> void:
	if is_active():
		process.poll()
	if _admin_keys != null and _admin_keys.is_running:
		_admin_keys.poll()


## Creates a key for the operator's page, once for as long as the editor runs. Emits
## [signal admin_key_created].
func create_admin_key() -> void:
	if not _admin_key.is_empty():
		admin_key_created.emit(_admin_key)
		return
	if _admin_keys != null and _admin_keys.is_running:
		return
	_admin_keys = ChildProcess.new()
	_admin_keys.line_printed.connect(_on_admin_key_line)
	var program := BackendProgram.find()
	var arguments: PackedStringArray = ["admin-keys", "create", "--label", "editor"]
	arguments.append_array(["--database", database()])
	var started := _admin_keys.start(
		program.path, arguments, ChildProcess.without_backend_variables()
	)
	if started != OK:
		line_printed.emit("An admin key cannot be created. %s" % program.error, true)


## Whether an admin key is being created.
func is_busy() -> bool:
	return _admin_keys != null and _admin_keys.is_running


func _on_admin_key_line(text: String, is_error: bool) -> void:
	for word: String in text.split(" ", false):
		if word.begins_with("gak_"):
			_admin_key = word
			admin_key_created.emit(word)
			return
	if is_error:
		line_printed.emit(text, true)


func _on_line_printed(text: String, is_error: bool) -> void:
	line_printed.emit(text, is_error)
	if not text.is_empty():
		_last_line = text
	if _error_line.is_empty() and is_error:
		if text.begins_with("error:") or text.begins_with("backend-server:"):
			_error_line = text
	if state == State.STARTING and text.begins_with(READY):
		url = text.trim_prefix(READY).strip_edges()
		_set_state(State.RUNNING)


func _on_ended() -> void:
	url = ""
	if state == State.STOPPING:
		_set_state(State.STOPPED)
	elif process.was_killed:
		_set_state(State.STOPPED)
	else:
		var why := _last_line if _error_line.is_empty() else _error_line
		_fail("It has ended with exit code %d. %s" % [process.exit_code, why])


func _fail(why: String) -> void:
	error = why.strip_edges()
	_set_state(State.FAILED)


func _set_state(next: State) -> void:
	state = next
	state_changed.emit()


## File of the database.
func database() -> String:
	return _folder.path_join("backend.db")


static func _setting(path: String, default: String) -> String:
	var value: String = ProjectSettings.get_setting(path, default)
	return default if value.is_empty() else value
