@tool
extends EditorPlugin
## Adds the panel [b]Backend[/b] to the bottom of the editor.

const BackendProgram := preload("backend_program.gd")
const BackendPanel := preload("backend_panel.gd")
const StateCapture := preload("state_capture.gd")

var _panel: BackendPanel
var _state_capture := StateCapture.new()


func _enter_tree() -> void:
	BackendProgram.register_editor_setting()
	_panel = BackendPanel.new()
	var shortcut := Shortcut.new()
	var key := InputEventKey.new()
	key.alt_pressed = true
	key.keycode = KEY_B
	shortcut.events = [key]
	add_control_to_bottom_panel(_panel, "Backend", shortcut)
	_state_capture.reported.connect(_panel.show_state)
	_state_capture.ended.connect(_panel.remove_state)
	add_debugger_plugin(_state_capture)


func _exit_tree() -> void:
	remove_debugger_plugin(_state_capture)
	_state_capture.reported.disconnect(_panel.show_state)
	_state_capture.ended.disconnect(_panel.remove_state)
	_panel.end_everything()
	remove_control_from_bottom_panel(_panel)
	_panel.queue_free()
	_panel = null
