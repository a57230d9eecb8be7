@tool
extends VBoxContainer
## The logs of all processes in one view, filtered by process and by text.

const LogLines := preload("log_lines.gd")

## Lines that the view holds, at most.
const MAX_SHOWN := 2_000
## Lines that one frame adds, at most.
const ADDED_PER_FRAME := 200
const EXAMINED_PER_FRAME := 2_000

var _lines: LogLines
var _next := 0
var _source := ""
var _search := ""
var _sources: PackedStringArray = []

var _source_button := OptionButton.new()
var _search_field := LineEdit.new()
var _clear_button := Button.new()
var _text := RichTextLabel.new()


func _init(lines: LogLines) -> void:
	_lines = lines
	size_flags_horizontal = SIZE_EXPAND_FILL
	var bar := HBoxContainer.new()
	_source_button.tooltip_text = "Shows the lines of one process"
	_source_button.accessibility_name = "Process"
	_source_button.item_selected.connect(_on_source_selected)
	_source_button.fit_to_longest_item = false
	_search_field.placeholder_text = "Filter"
	_search_field.accessibility_name = "Filter by text"
	_search_field.clear_button_enabled = true
	_search_field.size_flags_horizontal = SIZE_EXPAND_FILL
	_search_field.text_changed.connect(_on_search_changed)
	_clear_button.text = "Clear"
	_clear_button.tooltip_text = "Removes all lines"
	_clear_button.pressed.connect(_on_clear_pressed)
	for control: Control in [_source_button, _search_field, _clear_button]:
		bar.add_child(control)
	add_child(bar)
	_text.scroll_following = true
	_text.selection_enabled = true
	_text.context_menu_enabled = true
	_text.focus_mode = FOCUS_ALL
	_text.accessibility_name = "Log"
	_text.size_flags_vertical = SIZE_EXPAND_FILL
	add_child(_text)
	set_sources([])


func _notification(what: int) -> void:
	if what == NOTIFICATION_THEME_CHANGED:
		_text.add_theme_font_override(&"normal_font", get_theme_font(&"source", &"EditorFonts"))
		_text.add_theme_font_size_override(
			&"normal_font_size", get_theme_font_size(&"output_source_size", &"EditorFonts")
		)
		_search_field.right_icon = get_theme_icon(&"Search", &"EditorIcons")
		_clear_button.icon = get_theme_icon(&"Clear", &"EditorIcons")
		_show_again()


## Names of the processes that can be chosen.
func set_sources(sources: PackedStringArray) -> void:
	if sources == _sources and _source_button.item_count > 0:
		return
	_sources = sources
	_source_button.clear()
	_source_button.add_item("All processes")
	for source in sources:
		_source_button.add_item(source)
	var index := sources.find(_source)
	_source_button.select(index + 1)
	if index < 0 and not _source.is_empty():
		show_source("")


## Shows the lines of one process, or of all if [param source] is empty.
func show_source(source: String) -> void:
	_source = source
	_source_button.select(_sources.find(source) + 1)
	_show_again()


## Adds lines that are new.
func update() -> void:
	if _lines.first > _next:
		_next = _lines.first
	var added := 0
	var until := mini(_lines.end(), _next + EXAMINED_PER_FRAME)
	while _next < until and added < ADDED_PER_FRAME:
		var line := _lines.get_line(_next)
		_next += 1
		if LogLines.matches(line, _source, _search):
			_add(line)
			added += 1
	while _text.get_paragraph_count() > MAX_SHOWN + 1:
		_text.remove_paragraph(0, true)


## Whether [method update] has more to add.
func is_behind() -> bool:
	return _next < _lines.end()


func _add(line: LogLines.Line) -> void:
	if _source.is_empty():
		_text.push_color(get_theme_color(&"accent_color", &"Editor"))
		_text.add_text(line.source + "  ")
		_text.pop()
	if line.is_error and _is_error(line.text):
		_text.push_color(get_theme_color(&"error_color", &"Editor"))
		_text.add_text(line.text)
		_text.pop()
	elif line.text.contains("WARN"):
		_text.push_color(get_theme_color(&"warning_color", &"Editor"))
		_text.add_text(line.text)
		_text.pop()
	else:
		_text.add_text(line.text)
	_text.newline()


func _is_error(text: String) -> bool:
	return text.contains("ERROR") or text.begins_with("   at:") or text.contains("backend-server:")


func _show_again() -> void:
	_text.clear()
	_next = _lines.find_last(MAX_SHOWN, _source, _search)
	set_process(true)


func _process(_delta: float) -> void:
	update()
	if not is_behind():
		set_process(false)


func _on_source_selected(index: int) -> void:
	_source = "" if index <= 0 else _sources[index - 1]
	_show_again()


func _on_search_changed(text: String) -> void:
	_search = text
	_show_again()


func _on_clear_pressed() -> void:
	_lines.clear()
	_show_again()
