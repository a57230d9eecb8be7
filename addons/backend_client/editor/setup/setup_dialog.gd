@tool
extends AcceptDialog
## The setup assistant: shows what it would write, writes it, and takes it back.

const SetupItem := preload("setup_item.gd")
const SetupPlan := preload("setup_plan.gd")

const INTRODUCTION := (
	"A server and a client that use the backend, a main scene that chooses between them, and an"
	+ " export preset for each. What exists is not changed."
)
const STATES: Dictionary[SetupItem.State, String] = {
	SetupItem.State.MISSING: "will be written",
	SetupItem.State.KEPT: "exists already, stays as it is",
	SetupItem.State.WRITTEN: "written",
	SetupItem.State.CHANGED: "written, and changed since: stays",
}
const STATE_ICONS: Dictionary[SetupItem.State, StringName] = {
	SetupItem.State.MISSING: &"Add",
	SetupItem.State.KEPT: &"StatusWarning",
	SetupItem.State.WRITTEN: &"StatusSuccess",
	SetupItem.State.CHANGED: &"Edit",
}
const SIZE := Vector2(620, 450)

var plan := SetupPlan.new()
## Something is about to be written or removed.
var is_busy := false

var _tree := Tree.new()
var _message := Label.new()
var _write_button: Button
var _remove_button: Button
var _restart_button: Button


func _init() -> void:
	title = "Set Up a Server and a Client"
	ok_button_text = "Close"
	var box := VBoxContainer.new()
	var introduction := Label.new()
	introduction.text = INTRODUCTION
	box.add_child(introduction)
	_tree.columns = 2
	_tree.column_titles_visible = true
	_tree.hide_root = true
	_tree.select_mode = Tree.SELECT_ROW
	_tree.size_flags_vertical = Control.SIZE_EXPAND_FILL
	_tree.accessibility_name = "Files and settings"
	for column in 2:
		_tree.set_column_title(column, ["File or Project Setting", "State"][column])
		_tree.set_column_title_alignment(column, HORIZONTAL_ALIGNMENT_LEFT)
	box.add_child(_tree)
	box.add_child(_message)
	for label: Label in [introduction, _message]:
		label.autowrap_mode = TextServer.AUTOWRAP_WORD_SMART
		# Without a width, it would be one word wide at first, and as high as the screen.
		label.custom_minimum_size.x = (SIZE.x - 40) * EditorInterface.get_editor_scale()
	add_child(box)
	_write_button = add_button("Write", false)
	_write_button.pressed.connect(_on_write_pressed)
	_remove_button = add_button("Remove What Was Written", false)
	_remove_button.pressed.connect(_on_remove_pressed)
	_restart_button = add_button("Restart the Editor", false)
	_restart_button.pressed.connect(EditorInterface.restart_editor.bind(true))
	_restart_button.hide()
	about_to_popup.connect(_on_about_to_popup)


## Opens it.
func open() -> void:
	popup_centered_clamped(SIZE * EditorInterface.get_editor_scale())


func _on_about_to_popup() -> void:
	plan.refresh()
	_message.text = ""
	_show_items()


func _show_items() -> void:
	_tree.clear()
	var root := _tree.create_item()
	for item in plan.items:
		var row := _tree.create_item(root)
		row.set_text(0, item.target)
		row.set_icon(1, _tree.get_theme_icon(STATE_ICONS[item.state], &"EditorIcons"))
		row.set_text(1, STATES[item.state])
		if not item.is_file():
			row.set_tooltip_text(0, "Project Setting: %s" % item.value)
	_write_button.disabled = not plan.has(SetupItem.State.MISSING)
	_remove_button.disabled = not plan.has(SetupItem.State.WRITTEN)


func _on_write_pressed() -> void:
	await _until_scanned()
	var had_main_scene := _is_kept("application/run/main_scene")
	var errors := plan.write()
	var done := "Written. Press Run Servers, then Run Clients."
	if not errors.is_empty():
		done = "Not everything could be written."
	if had_main_scene:
		(
			errors
			. append(
				(
					"The project has a main scene, which stays. Let it load res://main.tscn, or the scene of"
					+ " the server or the client."
				)
			)
		)
	if _is_kept("res://export_presets.cfg"):
		errors.append("The project has export presets: add one for a dedicated server there.")
	_finish(done, errors)


func _on_remove_pressed() -> void:
	await _until_scanned()
	_finish("Removed, unless it was changed since.", plan.remove())


## Files must not come and go while the editor's scan of the project looks at them.
func _until_scanned() -> void:
	is_busy = true
	_write_button.disabled = true
	_remove_button.disabled = true
	while EditorInterface.get_resource_filesystem().is_scanning():
		await get_tree().process_frame


func _finish(done: String, errors: PackedStringArray) -> void:
	is_busy = false
	_message.text = "\n".join(PackedStringArray([done]) + errors)
	# The editor reads export presets when it starts.
	_restart_button.show()
	_restart_button.tooltip_text = "The editor reads export presets when it starts"
	EditorInterface.get_resource_filesystem().scan()
	_show_items()


func _is_kept(target: String) -> bool:
	return plan.items.any(
		func(item: SetupItem) -> bool:
			return item.target == target and item.state == SetupItem.State.KEPT
	)
