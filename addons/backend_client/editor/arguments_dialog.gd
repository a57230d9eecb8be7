@tool
extends ConfirmationDialog
## Further arguments of backend, servers and clients.

const RunOptions := preload("run_options.gd")

var _options: RunOptions
var _fields: Dictionary[StringName, LineEdit] = {}


func _init(options: RunOptions) -> void:
	_options = options
	title = "Arguments"
	ok_button_text = "Save"
	var box := VBoxContainer.new()
	_add_field(box, &"server_arguments", "Servers", "{port} and {name} are filled in.")
	_add_field(box, &"client_arguments", "Clients", "{name} is filled in.")
	_add_field(box, &"backend_arguments", "Backend", "Options of backend-server serve.")
	var help := Label.new()
	help.text = (
		"If a line has --, the words before it are for the engine, such as --resolution 640x360,"
		+ " and the words after it are for the game. Otherwise all are for the game."
	)
	help.autowrap_mode = TextServer.AUTOWRAP_WORD_SMART
	help.custom_minimum_size.x = 480 * EditorInterface.get_editor_scale()
	box.add_child(help)
	add_child(box)
	confirmed.connect(_on_confirmed)
	about_to_popup.connect(_on_about_to_popup)


func _add_field(box: VBoxContainer, option: StringName, label: String, help: String) -> void:
	var name_label := Label.new()
	name_label.text = label
	var field := LineEdit.new()
	field.tooltip_text = help
	field.placeholder_text = help
	field.accessibility_name = label
	register_text_enter(field)
	_fields[option] = field
	box.add_child(name_label)
	box.add_child(field)


func _on_about_to_popup() -> void:
	for option in _fields:
		_fields[option].text = _options.get(option)


func _on_confirmed() -> void:
	for option in _fields:
		_options.set(option, _fields[option].text.strip_edges())
	_options.save()
