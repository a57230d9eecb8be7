## A GDScript sample of the documentation, and the script that it is made into.
##
## A sample is a whole script (it begins with `extends` or `class_name`), the members of one, or
## statements, which become the body of `sample()`. What it uses and does not declare comes from
## `context.gd`. A node, such as `$BackendRooms`, becomes a variable of the node's class, so that
## the engine knows the methods, properties and signals that the sample may name.
extends RefCounted

enum Kind { SCRIPT, MEMBERS, STATEMENTS }

const CONTEXT := "res://samples/context.gd"
const Context := preload("context.gd")

static var _declarations: Dictionary[String, String] = {}

## The page, relative to the repository, and the line of the page with the sample's first line.
var page := ""
var first_line := 0
var lines: PackedStringArray = []
var kind := Kind.STATEMENTS
## The classes of the sample's nodes, by the name of the variable that stands for the node.
var nodes: Dictionary[String, String] = {}
## What the sample uses of `context.gd`.
var used: PackedStringArray = []
## Nodes whose class is not known.
var unknown_nodes: PackedStringArray = []


func _init(from_page: String, from_line: int, text: PackedStringArray) -> void:
	page = from_page
	first_line = from_line
	lines = text
	kind = _kind()


func title() -> String:
	return "%s:%d" % [page, first_line]


## The line of the page for a line of the script.
func page_line(script_line: int) -> int:
	return first_line + maxi(script_line - 1 - _header().size(), 0)


## The text of the script.
func source() -> String:
	var text := _with_typed_nodes("\n".join(lines))
	if kind == Kind.SCRIPT:
		# The class is there already, under its own path.
		text = _regex("(?m)^class_name \\w+$").sub(text, "")
	elif kind == Kind.MEMBERS:
		# Called by the suite, which then knows when it has ended.
		text = text.replace("func _ready()", "func sample_ready()")
	elif kind == Kind.STATEMENTS:
		text = "\n".join(
			Array(text.split("\n")).map(func(line: String) -> String: return "\t" + line)
		)
	var script := "\n".join(PackedStringArray(_header() + [text, ""]))
	for variable in nodes:
		script += "var %s: %s\n" % [variable, nodes[variable]]
	for declaration in _context_of(text):
		script += declaration + "\n"
	return script


func _kind() -> Kind:
	for line in lines:
		if line.begins_with("extends ") or line.begins_with("class_name "):
			return Kind.SCRIPT
	for line in lines:
		if line.begins_with("func ") or line.begins_with("@onready "):
			return Kind.MEMBERS
	return Kind.STATEMENTS


func _header() -> Array[String]:
	match kind:
		Kind.SCRIPT:
			return []
		Kind.MEMBERS:
			return ["extends Node"]
		_:
			return ["extends Node", "func sample() -> void:"]


func _with_typed_nodes(text: String) -> String:
	nodes.clear()
	unknown_nodes.clear()
	for found in _regex("\\$(\\w+)").search_all(text):
		var node := found.get_string(1)
		var type := node_class(node)
		if type.is_empty():
			unknown_nodes.append(node)
		else:
			nodes["node_" + node] = type
	return _regex("\\$(\\w+)").sub(text, "node_$1", true)


## The class of a node by its name: its own, one of the addon's scenes, or one of `context.gd`.
static func node_class(node: String) -> String:
	if ClassDB.class_exists(node):
		return node
	for script_class: Dictionary in ProjectSettings.get_global_class_list():
		if script_class["class"] in [node, "Backend" + node]:
			return script_class["class"]
	return Context.NODES.get(node, "")


## The declarations of `context.gd` that `text` needs, and those that they need.
func _context_of(text: String) -> PackedStringArray:
	var found: PackedStringArray = []
	used.clear()
	if kind == Kind.SCRIPT:
		return found
	var code := _without_comments(text)
	var is_complete := false
	while not is_complete:
		is_complete = true
		for name in _declared():
			if name not in used and _uses(code, name):
				used.append(name)
				found.append(_declared()[name])
				code += "\n" + _without_comments(_declared()[name].get_slice(name, 1))
				is_complete = false
	return found


func _uses(code: String, name: String) -> bool:
	if _regex("\\b(var|const|func|for) %s\\b" % name).search(code) != null:
		return false
	# Not a member of something else, and no parameter.
	return (
		_regex('(?<![\\w."$@])%s\\b(?!\\s*:\\s*[A-Z])' % name).search(code) != null
		and _regex("[(,] ?%s: [A-Za-z]" % name).search(code) == null
	)


static func _declared() -> Dictionary[String, String]:
	if _declarations.is_empty():
		var name := ""
		var annotation := ""
		for line in FileAccess.get_file_as_string(CONTEXT).split("\n"):
			var begin := _regex("^(var|const|func|class) (\\w+)").search(line)
			if begin != null:
				name = begin.get_string(2)
				_declarations[name] = annotation + line
				annotation = ""
			elif line.begins_with("@"):
				annotation = line + "\n"
			elif line.begins_with("\t") and not name.is_empty():
				_declarations[name] += "\n" + line
	return _declarations


static func _without_comments(text: String) -> String:
	return _regex("(?m)#.*$").sub(_regex('"(\\\\.|[^"\\\\])*"').sub(text, '""', true), "", true)


static func _regex(pattern: String) -> RegEx:
	return RegEx.create_from_string(pattern)
