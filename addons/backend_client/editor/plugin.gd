@tool
extends EditorPlugin
## Adds the panel [b]Backend[/b] to the bottom of the editor.

const BackendProgram := preload("backend_program.gd")
const BackendPanel := preload("backend_panel.gd")

var _panel: BackendPanel


func _enter_tree() -> void:
	BackendProgram.register_editor_setting()
	_panel = BackendPanel.new()
	var shortcut := Shortcut.new()
	var key := InputEventKey.new()
	key.alt_pressed = true
	key.keycode = KEY_B
	shortcut.events = [key]
	add_control_to_bottom_panel(_panel, "Backend", shortcut)


func _exit_tree() -> void:
	_panel.end_everything()
	remove_control_from_bottom_panel(_panel)
	_panel.queue_free()
	_panel = null
