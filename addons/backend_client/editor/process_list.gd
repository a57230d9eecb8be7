@tool
extends VBoxContainer
## The processes, with their states, and buttons that end the one that is selected.

signal terminate_requested(name: String)
signal kill_requested(name: String)
## A row was double-clicked, or accepted with the keyboard.
signal activated(name: String)

const ChildProcess := preload("child_process.gd")

const TITLES: PackedStringArray = ["Process", "State", "PID", "Exit code"]
const MIN_WIDTHS: PackedInt32Array = [88, 76, 76, 76]
const SIGTERM_HELP := (
	"Asks the process to end, as a host does: a server saves what it holds, leaves the list of rooms"
	+ " and exits with 0"
)
const NO_SIGTERM_HELP := (
	"Windows has no SIGTERM. To see the orderly shutdown, run an exported server in a terminal"
	+ " and press Ctrl-Break."
)

var _processes: Array[ChildProcess] = []
var _tree := Tree.new()
var _terminate_button := Button.new()
var _kill_button := Button.new()


func _init() -> void:
	size_flags_horizontal = SIZE_EXPAND_FILL
	_tree.columns = TITLES.size()
	_tree.column_titles_visible = true
	_tree.hide_root = true
	_tree.select_mode = Tree.SELECT_ROW
	_tree.size_flags_vertical = SIZE_EXPAND_FILL
	_tree.accessibility_name = "Processes"
	for column in TITLES.size():
		_tree.set_column_title(column, TITLES[column])
		_tree.set_column_title_alignment(column, HORIZONTAL_ALIGNMENT_LEFT)
		_tree.set_column_expand_ratio(column, 2 if column < 2 else 1)
	_tree.item_selected.connect(_update_buttons)
	_tree.nothing_selected.connect(_tree.deselect_all)
	_tree.item_activated.connect(func() -> void: activated.emit(selected_name()))
	add_child(_tree)
	var bar := HFlowContainer.new()
	_terminate_button.text = "Send SIGTERM"
	_terminate_button.pressed.connect(func() -> void: terminate_requested.emit(selected_name()))
	_kill_button.text = "Kill"
	_kill_button.tooltip_text = "Ends the process without warning, as a crash does"
	_kill_button.pressed.connect(func() -> void: kill_requested.emit(selected_name()))
	for button: Button in [_terminate_button, _kill_button]:
		bar.add_child(button)
	add_child(bar)
	_update_buttons()


func _notification(what: int) -> void:
	if what == NOTIFICATION_THEME_CHANGED:
		for column in TITLES.size():
			var width := MIN_WIDTHS[column] * EditorInterface.get_editor_scale()
			_tree.set_column_custom_minimum_width(column, int(width))


## Shows these processes. The selection stays.
func show_processes(processes: Array[ChildProcess]) -> void:
	var selected := selected_name()
	_processes = processes
	_tree.clear()
	var root := _tree.create_item()
	for process in processes:
		var item := _tree.create_item(root)
		item.set_text(0, process.name)
		item.set_text(1, state_of(process))
		item.set_text(2, str(process.pid) if process.pid > 0 else "")
		item.set_text(3, str(process.exit_code) if process.exit_code >= 0 else "")
		if process.name == selected:
			item.select(0)
	_update_buttons()


func selected_name() -> String:
	var item := _tree.get_selected()
	return "" if item == null else item.get_text(0)


## Selects a process by name.
func select_process(name: String) -> void:
	for item in _tree.get_root().get_children():
		if item.get_text(0) == name:
			item.select(0)


## State in a word.
static func state_of(process: ChildProcess) -> String:
	if process.is_ending:
		return "ending"
	if process.is_running:
		return "running"
	return "killed" if process.was_killed else "ended"


func _update_buttons() -> void:
	var selected := selected_name()
	var is_running := _processes.any(
		func(process: ChildProcess) -> bool: return process.name == selected and process.is_running
	)
	_terminate_button.disabled = not is_running or not ChildProcess.can_terminate()
	_terminate_button.tooltip_text = (
		SIGTERM_HELP if ChildProcess.can_terminate() else NO_SIGTERM_HELP
	)
	_kill_button.disabled = not is_running
