## Every GDScript sample of the documentation compiles against the real classes, and runs.
extends "res://peer_auth_test_base.gd"

const Pages := preload("res://samples/pages.gd")
const Sample := preload("res://samples/sample.gd")
const ScriptErrors := preload("res://samples/script_errors.gd")

## What the engine makes for a scene once is no leak.
const SHOWN_FIRST: Array[PackedScene] = [
	preload("res://addons/backend_client/ui/login_form.tscn"),
	preload("res://addons/backend_client/ui/connection_lost.tscn"),
	preload("res://addons/backend_client/ui/server_browser.tscn"),
	preload("res://addons/backend_client/ui/matchmaking_panel.tscn"),
]
## One for all: the engine keeps each script that has no file.
const COMPILED: GDScript = preload("res://samples/compiled.gd")
# Loaded before the first test counts its objects.
const WEB_CLIENT: GDScript = preload("res://samples/web_client.gd")
const WARNINGS := "debug/gdscript/warnings/"
const AS_ERROR := 2
## A name that the engine does not know in a class is a warning, off by default.
const FATAL_WARNINGS: PackedStringArray = [
	"confusable_local_declaration",
	"incompatible_ternary",
	"inference_on_variant",
	"narrowing_conversion",
	"redundant_await",
	"shadowed_variable",
	"standalone_expression",
	"standalone_ternary",
	"static_called_on_instance",
	"unassigned_variable",
	"unreachable_code",
	"unsafe_method_access",
	"unsafe_property_access",
	"untyped_declaration",
]
## Rows of the list that samples write to: more than there are rooms.
const LEAST_ROWS := 100
## Mistakes in a sample: the page, and the line and a part of what has to be said about it.
const BROKEN: Array[Array] = [
	["$BackendRooms.list_roms()", 2, "list_roms"],
	["var size: int = $BackendRooms.list_rooms().sise", 2, "sise"],
	["$BackendPeerAuth.peer_verifyed.connect(print)", 2, "peer_verifyed"],
	['$BackendServerRegistration.port = "7777"', 2, 'as "int"'],
	['$BackendPlayerStore.save(player_id, "progress")', 2, "save"],
	[
		"print(1)\nregistration.visibility = BackendServerRegistration.VISIBILITY_SECRET",
		3,
		"SECRET"
	],
	["func _ready() -> void:\n\tprint(undeclared_name)", 3, "undeclared_name"],
	["$Unheard.start()", 2, "Unheard"],
	[
		"var page: BackendRoomPage = await rooms.request_ticket(room_id).wait()",
		2,
		"BackendJoinTicket"
	],
	["func _on_peer_left(_peer_id: int) -> void:\n\tpass", 2, "peer_left"],
	["func _on_peer_left(_peer_id: int, _player: String) -> void:\n\tpass", 2, "peer_left"],
]

## Words of samples that compile, and cannot run here.
const NOT_RUN: Dictionary[String, String] = {
	"HTTPRequest": "the service that it asks is not this backend",
	"Steam.": "needs the addon GodotSteam, and Steam",
	"find_match(": "waits for another player",
	"find_players(": "waits for another player",
	"join_party(ticket_id": "waits for another player",
	"quick_play(": "waits for a room that fits",
	"res://my_texts": "a file of the game",
	"res://duel": "a file of the game",
}

## The class that the result of a method has, by the method's name, from the classes' documentation.
var _result_classes: Dictionary[String, PackedStringArray] = {}

var _errors := ScriptErrors.new()
var _levels: Dictionary[String, int] = {}


func _enter_tree() -> void:
	OS.add_logger(_errors)
	# Reported here, with page and line.
	tolerate_errors(" ")
	for warning in FATAL_WARNINGS:
		_levels[WARNINGS + warning] = ProjectSettings.get_setting(WARNINGS + warning)
		ProjectSettings.set_setting(WARNINGS + warning, AS_ERROR)


func _exit_tree() -> void:
	OS.remove_logger(_errors)
	for setting in _levels:
		ProjectSettings.set_setting(setting, _levels[setting])


func test_every_sample_compiles() -> void:
	await frames(2)
	var samples := Pages.samples()
	check(samples.size() > 50, "only %d samples were found" % samples.size())
	for sample: Sample in samples:
		_compile(sample)
		failures.append_array(_problems(sample))


func test_a_wrong_sample_is_reported_with_page_and_line() -> void:
	await frames(2)
	for mistake: Array in BROKEN:
		var text := "```gdscript\n%s\n```" % mistake[0]
		var samples := Pages.samples_of("page.md", text)
		check_eq(samples.size(), 1, "samples")
		_compile(samples[0])
		var found := _problems(samples[0])
		var begin := "page.md:%d: " % mistake[1]
		var is_expected := func(line: String) -> bool:
			return line.begins_with(begin) and line.contains(mistake[2])
		check(Array(found).any(is_expected), "%s: %s" % [mistake[0], found])


## Whole scripts are only compiled; those of the README are run by the end-to-end test `readme`.
func test_samples_run() -> void:
	timeout_seconds = 120.0
	await open_server()
	var values := await _values()
	for sample: Sample in Pages.samples():
		if sample.kind == Sample.Kind.SCRIPT or _reason_not_to_run(sample) != "":
			continue
		var script := _compile(sample)
		if script == null:
			continue
		var instance: Node = script.new()
		for property in instance.get_property_list():
			var value: Variant = _value_of(property["name"], sample, values)
			if property["usage"] & PROPERTY_USAGE_SCRIPT_VARIABLE and value != null:
				instance.set(property["name"], value)
		# Samples that show something of each room do it in rows that the game has made.
		var list: ItemList = values["list"]
		while list.item_count < LEAST_ROWS:
			list.add_item("")
		await _run(sample, instance, values)
		for error in _errors.take():
			fail("%s:%d: %s" % [sample.page, sample.page_line(error[1]), error[2]])
		instance.free()
		get_tree().get_multiplayer().multiplayer_peer = OfflineMultiplayerPeer.new()
	(values["shutdown"] as Node).free()


func _compile(sample: Sample) -> GDScript:
	_errors.take()
	var script: GDScript = COMPILED
	script.source_code = sample.source()
	return script if script.reload() == OK else null


## What is wrong with a sample that was compiled, a line each.
func _problems(sample: Sample) -> PackedStringArray:
	var found: PackedStringArray = []
	for error in _errors.take():
		# What is in an Array or comes from JSON has no class.
		if (error[2] as String).contains('inferred type "Variant"'):
			continue
		found.append("%s:%d: %s" % [sample.page, sample.page_line(error[1]), error[2]])
	for node in sample.unknown_nodes:
		found.append(
			"%s: no class is known for $%s: name it in context.gd" % [sample.title(), node]
		)
	for index in sample.lines.size():
		var place := "%s:%d" % [sample.page, sample.first_line + index]
		for problem: String in [
			_wrong_result(sample.lines[index]), _wrong_handler(sample.lines[index])
		]:
			if not problem.is_empty():
				found.append("%s: %s" % [place, problem])
	return found


## The class of an awaited result is checked when it runs, and here for what cannot run.
func _wrong_result(line: String) -> String:
	var awaited := (
		RegEx
		. create_from_string(
			"var \\w+: (\\w+) = await .*?\\.(\\w+)\\([^.]*(\\(.*\\))?.*\\)\\.wait\\(\\)"
		)
		. search(line)
	)
	if awaited == null:
		return ""
	var classes: PackedStringArray = _results().get(awaited.get_string(2), PackedStringArray())
	if classes.is_empty() or "" in classes or awaited.get_string(1) in classes:
		return ""
	return "%s() completes with %s" % [awaited.get_string(2), " or ".join(classes)]


## A function that is named after a signal takes what the signal has.
func _wrong_handler(line: String) -> String:
	var handler := RegEx.create_from_string("^func _on_(\\w+)\\((.*)\\) -> ").search(line)
	if handler == null:
		return ""
	var types: PackedStringArray = []
	for parameter in handler.get_string(2).split(",", false):
		types.append(parameter.get_slice(":", 1).strip_edges())
	var signals: PackedStringArray = []
	for type in ClassDB.get_class_list():
		if not type.begins_with("Backend"):
			continue
		for event: Dictionary in ClassDB.class_get_signal_list(type, true):
			var event_name: String = event["name"]
			if ("_" + handler.get_string(1)).ends_with("_" + event_name):
				var arguments: Array = event["args"]
				var own := PackedStringArray(arguments.map(_type_of))
				if own == types:
					return ""
				signals.append("%s.%s(%s)" % [type, event_name, ", ".join(own)])
	return "" if signals.is_empty() else "the signal is %s" % " or ".join(signals)


func _type_of(argument: Dictionary) -> String:
	var type: Variant.Type = argument["type"]
	return argument["class_name"] if type == TYPE_OBJECT else type_string(type)


func _results() -> Dictionary[String, PackedStringArray]:
	if not _result_classes.is_empty():
		return _result_classes
	var method := RegEx.create_from_string("^\\s*(?:pub(?:\\(\\w+\\))? )?fn (\\w+)")
	var completes := RegEx.create_from_string("completes with an? \\[(\\w+)\\]")
	for page in Pages.pages("rust/extension/src/nodes"):
		var documentation := ""
		for line in FileAccess.get_file_as_string(Pages.absolute(page)).split("\n"):
			var declared := method.search(line)
			if line.strip_edges().begins_with("///"):
				documentation += " " + line.strip_edges().trim_prefix("///").strip_edges()
			elif declared != null:
				var result := completes.search(documentation)
				var classes: PackedStringArray = _result_classes.get_or_add(
					declared.get_string(1), PackedStringArray()
				)
				# One that its documentation does not name can be any.
				classes.append("" if result == null else result.get_string(1))
				_result_classes[declared.get_string(1)] = classes
				documentation = ""
	return _result_classes


func _value_of(variable: String, sample: Sample, values: Dictionary[String, Variant]) -> Variant:
	if not sample.nodes.has(variable):
		return values.get(variable)
	var by_name: Variant = values.get(variable.trim_prefix("node_"))
	return by_name if by_name != null else values.get("of " + sample.nodes[variable])


func _reason_not_to_run(sample: Sample) -> String:
	for word in NOT_RUN:
		if "\n".join(sample.lines).contains(word):
			return NOT_RUN[word]
	return ""


## Runs what the sample is made of: its statements, or each of its functions.
func _run(sample: Sample, instance: Node, values: Dictionary[String, Variant]) -> void:
	add_child(instance)
	await frames(2)
	for method: Dictionary in (instance.get_script() as GDScript).get_script_method_list():
		var method_name: String = method["name"]
		var is_own := method_name.begins_with("sample") or _declares(sample, method_name)
		if not is_own:
			continue
		var arguments: Array = method["args"].map(_argument.bind(values))
		var done := [false]
		_call(instance, method_name, arguments, done)
		var what := "%s: the end of %s()" % [sample.title(), method_name]
		await until(func() -> bool: return done[0], WAIT_TIMEOUT, what)
	_check_handlers(sample, instance, values)


func _call(instance: Node, method: String, arguments: Array, done: Array) -> void:
	await instance.callv(method, arguments)
	done[0] = true


func _declares(sample: Sample, method: String) -> bool:
	return Array(sample.lines).any(
		func(line: String) -> bool: return line.begins_with("func %s(" % method)
	)


## A value of the type that a parameter has.
func _argument(parameter: Dictionary, values: Dictionary[String, Variant]) -> Variant:
	match parameter["type"]:
		TYPE_OBJECT:
			return values.get("of " + str(parameter["class_name"]))
		TYPE_INT:
			return values["peer_id"]
		TYPE_STRING:
			return values["player_id"]
		_:
			return type_convert(null, parameter["type"])


## What a sample connects takes as many arguments as the signal has.
func _check_handlers(sample: Sample, instance: Node, values: Dictionary[String, Variant]) -> void:
	for value: Variant in values.values():
		if not value is Object:
			continue
		var source: Object = value
		for event: Dictionary in source.get_signal_list():
			for connection in source.get_signal_connection_list(event["name"]):
				var handler: Callable = connection["callable"]
				var count: int = event["args"].size()
				if handler.get_object() == instance and handler.get_argument_count() != count:
					fail("%s: %s has %d arguments" % [sample.title(), event["name"], count])
				if handler.get_object() == instance:
					source.disconnect(event["name"], handler)


## What the samples find: by the names of `context.gd`, and by class.
func _values() -> Dictionary[String, Variant]:
	var client := await new_player("Reader")
	var rooms := new_rooms(client)
	var verified := record(_server.peer_auth.peer_verified)
	await join_as(client)
	var page: BackendRoomPage = await rooms.list_rooms().wait()
	succeeded(page, "rooms")
	var ticket: BackendJoinTicket = await rooms.request_ticket(_registration.server_id).wait()
	succeeded(ticket, "ticket")
	var registration := await new_server("Sample")
	var values: Dictionary[String, Variant] = {
		"changed": PackedStringArray(["a"]),
		"join_ticket": ticket,
		"list": ItemList.new(),
		"matchmaker": BackendMatchmaker.new(),
		"max_players": 8,
		"page": page,
		"party": PackedStringArray(["Ada"]),
		"party_code": "",
		"password": "",
		"password_field": LineEdit.new(),
		"peer": ENetMultiplayerPeer.new(),
		"peer_auth": _server.peer_auth,
		"peer_id": verified[0][0],
		"player": verified[0][1],
		"player_id": (verified[0][1] as BackendPlayer).player_id,
		"port": 0,
		"progress": {},
		"query": BackendRoomQuery.new(),
		"registration": registration,
		"relay": BackendRelay.new(),
		"room": page.get_room(0),
		"room_id": page.get_room(0).room_id,
		"rooms": rooms,
		"session": new_session(),
		"status": Label.new(),
		"store": BackendPlayerStore.new(),
		"terrain": {"a": PackedByteArray([1])} as Dictionary[String, PackedByteArray],
		"ticket": ticket.ticket,
		"token": ticket.ticket,
		"world": BackendWorldStore.new(),
		"Accept": Control.new(),
		"options": BackendMatchOptions.new(),
		"search_field": LineEdit.new(),
		"code_field": LineEdit.new(),
	}
	(values["matchmaker"] as BackendMatchmaker).session = client
	(values["relay"] as BackendRelay).session = client
	(values["store"] as BackendPlayerStore).registration = registration
	(values["world"] as BackendWorldStore).registration = registration
	for scene in SHOWN_FIRST:
		var panel := scene.instantiate()
		values[str(panel.name)] = panel
	values["shutdown"] = BackendShutdown.new()
	values["validator"] = _validator
	values["room options"] = BackendRoomOptions.new()
	for name: String in values.keys():
		if not values[name] is Object:
			continue
		var value: Object = values[name]
		values["of " + value.get_class()] = value
		if value is Node and not (value as Node).is_inside_tree() and name != "shutdown":
			add_child(value as Node)
	return values
