@tool
extends RefCounted
## Runs the local backend, and servers and clients of this project.

## The backend or a game has another state.
signal changed
signal failed(message: String)

const ChildProcess := preload("child_process.gd")
const DebugServer := preload("debug_server.gd")
const FaultProxy := preload("fault_proxy.gd")
const FreePort := preload("free_port.gd")
const GameProcess := preload("game_process.gd")
const LocalBackend := preload("local_backend.gd")
const LogLines := preload("log_lines.gd")
const ProcessRecord := preload("process_record.gd")
const RunOptions := preload("run_options.gd")

const FOLDER := "res://.godot/backend_client/local"
const BACKEND := "backend"
## Source of the lines about requests that were made to fail.
const FAULTS := "faults"
const MAX_GAMES := 32
## Time that processes have to end by themselves when the editor closes.
const GRACE_MSEC := 10_000
const POLL_MSEC := 10

var backend: LocalBackend
var proxy := FaultProxy.new()
var debug_server := DebugServer.new()
var games: Array[GameProcess] = []
var lines := LogLines.new()
var options := RunOptions.new()

## Games that are started as soon as the backend runs.
var _waiting: Array[GameProcess] = []


func _init() -> void:
	backend = LocalBackend.new(ProjectSettings.globalize_path(FOLDER))
	backend.state_changed.connect(_on_backend_state_changed)
	backend.line_printed.connect(_on_backend_line_printed)
	proxy.line_printed.connect(_on_proxy_line_printed)
	proxy.settled.connect(_on_proxy_settled)
	changed.connect(_save_record)


func start_backend() -> void:
	var other := ProcessRecord.backend_of_another_editor()
	if not other.is_empty():
		_waiting.clear()
		failed.emit(
			(
				"Another editor has this project open and runs its backend at %s. Stop it there."
				% other
			)
		)
		return
	backend.start(options.backend_port, GameProcess.split_words(options.backend_arguments))


func stop_backend() -> void:
	_waiting.clear()
	backend.stop()


## Ends the backend without warning.
func kill_backend() -> void:
	_waiting.clear()
	backend.process.kill()


## Starts [param count] processes, and before them the backend if it does not run.
func run_games(role: GameProcess.Role, count: int) -> void:
	if _running().size() + _waiting.size() + count > MAX_GAMES:
		failed.emit("At most %d servers and clients can run at the same time." % MAX_GAMES)
		return
	for _index in count:
		var game := GameProcess.new()
		game.role = role
		game.name = _free_name("server" if role == GameProcess.Role.SERVER else "client")
		_remove_game(game.name)
		_waiting.append(game)
	if backend.state == LocalBackend.State.RUNNING:
		if not proxy.is_starting():
			_start_waiting()
	elif not backend.is_active():
		start_backend()


## Sends SIGTERM to all servers and clients. Where there is none, ends them without warning.
func stop_games() -> void:
	_waiting.clear()
	for game in _running():
		if ChildProcess.can_terminate():
			game.terminate()
		else:
			game.kill()
	changed.emit()


## Whether there is something to [method poll].
func is_active() -> bool:
	return backend.is_active() or backend.is_busy() or not _running().is_empty()


## Reads what the processes have printed. Call it once a frame while [method is_active].
func poll() -> void:
	backend.poll()
	proxy.poll()
	debug_server.poll()
	for game in _running():
		game.poll()


## Ends all processes, the backend last. Waits for them at most twice [constant GRACE_MSEC].
func end_everything() -> void:
	stop_games()
	_wait_until(func() -> bool: return _running().is_empty())
	for game in _running():
		game.kill()
	stop_backend()
	_wait_until(func() -> bool: return not backend.is_active())
	if backend.is_active():
		backend.process.kill()
	proxy.stop()
	debug_server.close()


## The game that has this name, or `null`.
func find_game(name: String) -> GameProcess:
	for game in games:
		if game.name == name:
			return game
	return null


## The fault proxy is not recorded: it ends with its standard input, which is this editor.
func _save_record() -> void:
	var running: Dictionary[int, String] = {}
	if backend.is_active():
		running[backend.process.pid] = ProcessRecord.LISTEN + backend.listen_address()
	for game in _running():
		running[game.pid] = game.profile_argument()
	ProcessRecord.save(running)


func _wait_until(condition: Callable) -> void:
	var deadline := Time.get_ticks_msec() + GRACE_MSEC
	while not condition.call() and Time.get_ticks_msec() < deadline:
		poll()
		OS.delay_msec(POLL_MSEC)


func _start_waiting() -> void:
	for game in _waiting:
		var is_server := game.role == GameProcess.Role.SERVER
		if is_server:
			game.port = FreePort.from(options.first_port, _ports())
		game.debugger_url = debug_server.url()
		game.line_printed.connect(_on_game_line_printed.bind(game.name))
		game.ended.connect(changed.emit)
		var words := options.server_arguments if is_server else options.client_arguments
		var url := backend.url if proxy.url.is_empty() else proxy.url
		var started := game.run(words, url, backend.server_key_file())
		if started == OK:
			games.append(game)
		else:
			failed.emit("%s cannot be started: %s." % [game.name, error_string(started)])
	_waiting.clear()
	games.sort_custom(_comes_before)
	changed.emit()


## Servers first, then by number.
func _comes_before(one: GameProcess, other: GameProcess) -> bool:
	if one.role != other.role:
		return one.role < other.role
	return one.name.naturalnocasecmp_to(other.name) < 0


func _on_backend_state_changed() -> void:
	match backend.state:
		LocalBackend.State.RUNNING:
			var port := backend.url.get_slice(":", 2).to_int()
			if port != options.backend_port:
				options.backend_port = port
				options.save()
			proxy.start(_proxy_port(), backend.url)
		LocalBackend.State.STOPPED:
			# What games connect to ends with it.
			proxy.stop()
			# Games were requested while it was stopping.
			if not _waiting.is_empty():
				start_backend()
		LocalBackend.State.FAILED:
			_waiting.clear()
			proxy.stop()
			failed.emit(backend.error)
	changed.emit()


## The games start when it is known how they reach the backend.
func _on_proxy_settled() -> void:
	if backend.state != LocalBackend.State.RUNNING:
		return
	if proxy.url.is_empty():
		failed.emit("The fault proxy does not run, and games connect to the backend: see the log.")
	elif proxy.port() != options.proxy_port:
		options.proxy_port = proxy.port()
		options.save()
	_start_waiting()


func _proxy_port() -> int:
	return options.proxy_port if options.proxy_port > 0 else options.backend_port + 1


func _on_proxy_line_printed(text: String, is_error: bool) -> void:
	lines.add(FAULTS, text, is_error)


func _on_backend_line_printed(text: String, is_error: bool) -> void:
	lines.add(BACKEND, text, is_error)


func _on_game_line_printed(text: String, is_error: bool, name: String) -> void:
	lines.add(name, text, is_error)


func _running() -> Array[GameProcess]:
	return games.filter(func(game: GameProcess) -> bool: return game.is_running)


func _ports() -> PackedInt32Array:
	var ports: PackedInt32Array = []
	for game in _running():
		ports.append(game.port)
	for game in _waiting:
		ports.append(game.port)
	return ports


## `server-1`, or the next number whose process does not run.
func _free_name(word: String) -> String:
	var number := 1
	while _is_used("%s-%d" % [word, number]):
		number += 1
	return "%s-%d" % [word, number]


func _is_used(name: String) -> bool:
	var game := find_game(name)
	return (
		(game != null and game.is_running)
		or _waiting.any(func(waiting: GameProcess) -> bool: return waiting.name == name)
	)


func _remove_game(name: String) -> void:
	var game := find_game(name)
	if game != null:
		games.erase(game)
