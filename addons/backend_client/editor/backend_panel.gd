@tool
extends VBoxContainer
## The panel [b]Backend[/b].

const ArgumentsDialog := preload("arguments_dialog.gd")
const ChildProcess := preload("child_process.gd")
const DataView := preload("data_view.gd")
const FaultsBar := preload("faults_bar.gd")
const GameProcess := preload("game_process.gd")
const LocalBackend := preload("local_backend.gd")
const LogView := preload("log_view.gd")
const ProcessList := preload("process_list.gd")
const ProcessRecord := preload("process_record.gd")
const Runner := preload("runner.gd")
const SetupDialog := preload("setup/setup_dialog.gd")
const StateView := preload("state_view.gd")

const STATES: Dictionary[LocalBackend.State, String] = {
	LocalBackend.State.STOPPED: "stopped",
	LocalBackend.State.STARTING: "starting …",
	LocalBackend.State.RUNNING: "running",
	LocalBackend.State.STOPPING: "stopping …",
	LocalBackend.State.FAILED: "failed",
}
const STATE_ICONS: Dictionary[LocalBackend.State, StringName] = {
	LocalBackend.State.STOPPED: &"Stop",
	LocalBackend.State.STARTING: &"Timer",
	LocalBackend.State.RUNNING: &"StatusSuccess",
	LocalBackend.State.STOPPING: &"Timer",
	LocalBackend.State.FAILED: &"StatusError",
}
const ORPHANS_MESSAGE := (
	"The editor did not end what it had started the last time."
	+ " %d processes were sent SIGTERM now: %s."
)
## Time that they have to end by themselves.
const ORPHANS_GRACE_SECONDS := 10.0
const MIN_HEIGHT := 260
const MIN_LIST_WIDTH := 336
## Of the views, which the switches and a message must not squeeze.
const MIN_VIEWS_HEIGHT := 210
const MAX_COUNT := 8

var runner := Runner.new()

var _state_icon := TextureRect.new()
var _state := Label.new()
var _backend_button := Button.new()
var _url := LineEdit.new()
var _page_button := Button.new()
var _server_count := SpinBox.new()
var _client_count := SpinBox.new()
var _servers_button := Button.new()
var _clients_button := Button.new()
var _arguments_button := Button.new()
var _stop_button := Button.new()
var _faults_button := Button.new()
var _faults := FaultsBar.new()
var _message := Label.new()
var _list := ProcessList.new()
var _log: LogView
var _state_view := StateView.new()
var _views := TabContainer.new()
var _arguments: ArgumentsDialog
var _setup_button := Button.new()
var _setup := SetupDialog.new()


func _init() -> void:
	name = "Backend"
	runner.changed.connect(_on_changed)
	runner.failed.connect(_show_message.bind(true))
	runner.debug_server.reported.connect(show_state)
	_log = LogView.new(runner.lines)
	_log.name = "Log"
	_arguments = ArgumentsDialog.new(runner.options)
	add_child(_arguments)
	add_child(_setup)
	_add_bar()
	_faults.hide()
	_faults.switched.connect(_on_faults_switched)
	_faults.expire_tokens_requested.connect(runner.proxy.expire_tokens)
	add_child(_faults)
	_message.autowrap_mode = TextServer.AUTOWRAP_WORD_SMART
	_message.hide()
	add_child(_message)
	var split := HSplitContainer.new()
	split.size_flags_vertical = SIZE_EXPAND_FILL
	_list.size_flags_stretch_ratio = 0.6
	split.add_child(_list)
	_views.size_flags_horizontal = SIZE_EXPAND_FILL
	for view: Control in [_log, _state_view, DataView.new(runner.backend)]:
		_views.add_child(view)
	split.add_child(_views)
	add_child(split)
	_list.terminate_requested.connect(_on_terminate_requested)
	_list.kill_requested.connect(_on_kill_requested)
	_list.activated.connect(_on_process_activated)
	_end_orphans()
	_on_changed()


func _notification(what: int) -> void:
	if what == NOTIFICATION_THEME_CHANGED:
		custom_minimum_size.y = MIN_HEIGHT * EditorInterface.get_editor_scale()
		_list.custom_minimum_size.x = MIN_LIST_WIDTH * EditorInterface.get_editor_scale()
		_views.custom_minimum_size.y = MIN_VIEWS_HEIGHT * EditorInterface.get_editor_scale()
		_servers_button.icon = get_theme_icon(&"Play", &"EditorIcons")
		_clients_button.icon = get_theme_icon(&"Play", &"EditorIcons")
		_stop_button.icon = get_theme_icon(&"Stop", &"EditorIcons")
		_page_button.icon = get_theme_icon(&"ExternalLink", &"EditorIcons")
		_show_backend()
		_show_faults()


func _process(_delta: float) -> void:
	if runner.is_active():
		runner.poll()
	else:
		set_process(_log.is_behind())
	_log.update()


func _end_orphans() -> void:
	var orphans := ProcessRecord.end_orphans()
	if orphans.is_empty():
		return
	_show_message(ORPHANS_MESSAGE % [orphans.size(), ", ".join(Array(orphans).map(str))], false)
	var tree: SceneTree = Engine.get_main_loop()
	tree.create_timer(ORPHANS_GRACE_SECONDS).timeout.connect(ProcessRecord.end_orphans.bind(true))


## Ends all processes and waits for them.
func end_everything() -> void:
	runner.end_everything()


func _add_bar() -> void:
	var bar := HFlowContainer.new()
	_state_icon.stretch_mode = TextureRect.STRETCH_KEEP_CENTERED
	_state.size_flags_vertical = SIZE_SHRINK_CENTER
	_backend_button.pressed.connect(_on_backend_pressed)
	_url.editable = false
	_url.selecting_enabled = true
	_url.expand_to_text_length = true
	_url.accessibility_name = "URL of the backend"
	_page_button.text = "Operator's Page"
	_page_button.tooltip_text = ("Opens the operator's page and copies a key, to be pasted there")
	_page_button.pressed.connect(_on_page_pressed)
	_arguments_button.text = "Arguments …"
	_arguments_button.tooltip_text = "Further arguments of servers, clients and backend"
	_arguments_button.pressed.connect(_arguments.popup_centered)
	_faults_button.text = "Faults"
	_faults_button.toggle_mode = true
	_faults_button.tooltip_text = "Shows switches that make the backend fail for the games"
	_faults_button.toggled.connect(_faults.set_visible)
	# The icon keeps its own colour.
	for color: StringName in [&"icon_pressed_color", &"icon_hover_pressed_color"]:
		_faults_button.add_theme_color_override(color, Color.WHITE)
	_setup_button.text = "Set Up …"
	_setup_button.tooltip_text = "Writes a server scene, a client scene and export presets"
	_setup_button.pressed.connect(_setup.open)
	_stop_button.text = "Stop All"
	_stop_button.tooltip_text = "Ends all servers and clients in order. The backend runs on"
	_stop_button.pressed.connect(runner.stop_games)
	var options := runner.options
	_set_up_count(_server_count, options.servers, "Number of servers")
	_set_up_count(_client_count, options.clients, "Number of clients")
	_server_count.value_changed.connect(func(value: float) -> void: options.servers = int(value))
	_client_count.value_changed.connect(func(value: float) -> void: options.clients = int(value))
	_servers_button.text = "Run Servers"
	_clients_button.text = "Run Clients"
	_servers_button.tooltip_text = "Starts servers of this project, and the backend if needed"
	_clients_button.tooltip_text = "Starts clients of this project, and the backend if needed"
	_servers_button.pressed.connect(_run.bind(GameProcess.Role.SERVER))
	_clients_button.pressed.connect(_run.bind(GameProcess.Role.CLIENT))
	var groups: Array[Array] = [
		[_state_icon, _state, _backend_button, _url, _page_button],
		[_server_count, _servers_button],
		[_client_count, _clients_button],
		[_stop_button, _faults_button, _arguments_button, _setup_button],
	]
	for group in groups:
		# What belongs together is wrapped together.
		var box := HBoxContainer.new()
		for control: Control in group:
			box.add_child(control)
		bar.add_child(box)
	add_child(bar)


func _set_up_count(field: SpinBox, value: int, label: String) -> void:
	field.min_value = 1
	field.max_value = MAX_COUNT
	field.value = value
	field.tooltip_text = label
	field.get_line_edit().accessibility_name = label


func _run(role: GameProcess.Role) -> void:
	_show_message("", false)
	runner.options.save()
	var is_server := role == GameProcess.Role.SERVER
	runner.run_games(role, runner.options.servers if is_server else runner.options.clients)


func _on_changed() -> void:
	_show_backend()
	var processes: Array[ChildProcess] = []
	var sources: PackedStringArray = []
	if runner.backend.process != null:
		processes.append(runner.backend.process)
		sources.append(Runner.BACKEND)
		sources.append(Runner.FAULTS)
	for game in runner.games:
		processes.append(game)
		sources.append(game.name)
	_list.show_processes(processes)
	_show_names()
	_log.set_sources(sources)
	set_process(true)


## Shows what a server or a client has reported.
func show_state(state: Dictionary) -> void:
	_state_view.show_state(state)


## A game that is no process of the panel has ended.
func remove_state(process_id: int) -> void:
	_state_view.remove_process(process_id)


func _show_names() -> void:
	var names: Dictionary[int, String] = {}
	var ended: PackedInt32Array = []
	for game in runner.games:
		names[game.pid] = game.name
		if not game.is_running:
			ended.append(game.pid)
	_state_view.show_processes(names, ended)


func _show_backend() -> void:
	var backend := runner.backend
	var is_running := backend.state == LocalBackend.State.RUNNING
	_state.text = "Backend: %s" % STATES[backend.state]
	_state_icon.texture = get_theme_icon(STATE_ICONS[backend.state], &"EditorIcons")
	_backend_button.text = "Stop Backend" if backend.is_active() else "Start Backend"
	_backend_button.icon = get_theme_icon(
		&"Stop" if backend.is_active() else &"Play", &"EditorIcons"
	)
	_url.text = backend.url
	_url.visible = is_running
	_page_button.disabled = not is_running
	_stop_button.disabled = not runner.games.any(
		func(game: GameProcess) -> bool: return game.is_running
	)


func _show_faults() -> void:
	var has_faults := _faults.has_faults()
	_faults_button.icon = get_theme_icon(&"StatusWarning", &"EditorIcons") if has_faults else null


func _on_faults_switched(faults: Dictionary) -> void:
	runner.proxy.switch(faults)
	_show_faults()
	set_process(true)


func _show_message(text: String, is_error: bool) -> void:
	_message.text = text
	_message.visible = not text.is_empty()
	if is_error:
		_message.add_theme_color_override(&"font_color", get_theme_color(&"error_color", &"Editor"))
	else:
		_message.remove_theme_color_override(&"font_color")


func _on_backend_pressed() -> void:
	_show_message("", false)
	if runner.backend.is_active():
		runner.stop_backend()
	else:
		runner.start_backend()


func _on_process_activated(process_name: String) -> void:
	_log.show_source(process_name)
	_views.current_tab = _log.get_index()


func _on_page_pressed() -> void:
	var created := runner.backend.admin_key_created
	if not created.is_connected(_on_admin_key_created):
		created.connect(_on_admin_key_created, CONNECT_ONE_SHOT)
	runner.backend.create_admin_key()
	set_process(true)


func _on_admin_key_created(key: String) -> void:
	DisplayServer.clipboard_set(key)
	_show_message("A key for the operator's page was copied: paste it there.", false)
	OS.shell_open(runner.backend.url + "/admin")


func _on_terminate_requested(process_name: String) -> void:
	var process := _find(process_name)
	if process == runner.backend.process:
		runner.stop_backend()
	elif process != null:
		process.terminate()
	_on_changed()


func _on_kill_requested(process_name: String) -> void:
	var process := _find(process_name)
	if process == runner.backend.process:
		runner.kill_backend()
	elif process != null:
		process.kill()


func _find(process_name: String) -> ChildProcess:
	if process_name == Runner.BACKEND:
		return runner.backend.process
	return runner.find_game(process_name)
