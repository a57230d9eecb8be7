## What the Inspector warns about: the mistakes of the first hour.
extends "res://backend_suite.gd"

const HOST_GRACE := "backend_client/shutdown/host_grace_seconds"

# The engine keeps each script that has no file.
static var _script := GDScript.new()


func test_no_base_url() -> void:
	var url := backend_url()
	OS.unset_environment("BACKEND_URL")
	for node: Node in [
		BackendSession.new(),
		BackendServerRegistration.new(),
		BackendPlayerStore.new(),
		BackendPeerAuth.new(),
		BackendTokenValidator.new(),
		BackendWorldStore.new(),
	]:
		check(_warns(node, "Base Url"), "%s: %s" % [node.get_class(), _warnings(node)])
		node.free()
	OS.set_environment("BACKEND_URL", url)


func test_plain_http_to_another_machine() -> void:
	var config := config_for("http://backend.example.org")
	for node: Node in [
		BackendSession.new(), BackendServerRegistration.new(), BackendPlayerStore.new()
	]:
		node.set(&"config", config)
		check(_warns(node, "use https"), "%s: %s" % [node.get_class(), _warnings(node)])
		node.free()
	config.allow_insecure_http = true
	var allowed := new_session(config)
	check_eq(_warnings(allowed), "", "warnings of what is allowed")


func test_nodes_that_are_not_assigned() -> void:
	var named: Array[Array] = [
		[BackendPlayerStore.new(), 'Assign "Registration"'],
		[BackendTokenValidator.new(), 'Assign "Registration"'],
		[BackendWorldStore.new(), 'Assign "Registration"'],
		[BackendRooms.new(), 'Assign "Session"'],
		[BackendRelay.new(), 'Assign "Session"'],
		[BackendMatchmaker.new(), 'Assign "Session"'],
		[BackendPeerAuth.new(), '"ticket"'],
	]
	for pair in named:
		var node: Node = pair[0]
		var words: String = pair[1]
		check(_warns(node, words), "%s: %s" % [node.get_class(), _warnings(node)])
		node.free()


func test_a_listed_server_without_peer_auth() -> void:
	var scene := _scene([BackendServerRegistration.new()])
	check(_warns(scene.get_child(0), "BackendPeerAuth"), "no warning")
	scene = _scene([BackendServerRegistration.new(), BackendPeerAuth.new()])
	check(not _warns(scene.get_child(0), "BackendPeerAuth"), "there is one")


func test_two_shutdowns_in_one_scene() -> void:
	var scene := _scene([BackendShutdown.new()])
	check_eq(_warnings(scene.get_child(0)), "", "warnings with one")
	scene = _scene([BackendShutdown.new(), BackendShutdown.new()])
	for node in scene.get_children():
		check(_warns(node, "2 BackendShutdown"), _warnings(node))


func test_a_grace_that_the_host_does_not_wait_for() -> void:
	var shutdown := BackendShutdown.new()
	check_eq(_warnings(shutdown), "", "warnings with the default")
	for seconds: float in [30.0, 60.0]:
		shutdown.grace_seconds = seconds
		check(_warns(shutdown, "kills the process"), "%s s: %s" % [seconds, _warnings(shutdown)])
	shutdown.grace_seconds = 29.0
	check_eq(_warnings(shutdown), "", "warnings of a grace that is short enough")
	var before: float = ProjectSettings.get_setting(HOST_GRACE)
	ProjectSettings.set_setting(HOST_GRACE, 10.0)
	check(_warns(shutdown, "10 s after which"), _warnings(shutdown))
	# Unknown: no warning.
	ProjectSettings.set_setting(HOST_GRACE, 0.0)
	check_eq(_warnings(shutdown), "", "warnings with an unknown host")
	ProjectSettings.set_setting(HOST_GRACE, before)
	shutdown.free()


func test_a_port_that_a_script_sets() -> void:
	var scene := _scene([BackendServerRegistration.new()])
	check(_warns(scene.get_child(0), 'Set "Port"'), "no warning without a script")
	var script := _script
	script.source_code = "extends Node\n\nfunc _enter_tree() -> void:\n\tget_child(0).port = 7777\n"
	check_eq(script.reload(), OK, "script")
	# Not run: the editor runs no scripts of the game either.
	scene = Node.new()
	scene.set_script(script)
	var registration := BackendServerRegistration.new()
	scene.add_child(registration)
	registration.owner = scene
	check(not _warns(registration, 'Set "Port"'), _warnings(registration))
	registration.port = 99_999
	check(_warns(registration, 'Set "Port"'), "no warning of a port that cannot be")
	scene.free()


func test_a_journal_that_dies_with_the_container() -> void:
	for pair: Array in [
		["BACKEND_JOURNAL_FOLDER", BackendPlayerStore.new(), "Journal"],
		["BACKEND_WORLDS_FOLDER", BackendWorldStore.new(), "Worlds"],
	]:
		var variable: String = pair[0]
		var node: Node = pair[1]
		check(not _warns(node, "does not survive"), "the default: %s" % _warnings(node))
		OS.set_environment(variable, "/tmp/saves")
		var words := "%s → Folder: what is in /tmp/saves does not survive" % pair[2]
		check(_warns(node, words), _warnings(node))
		OS.unset_environment(variable)
		node.free()


func test_the_base_of_the_ready_made_scenes_is_no_scene() -> void:
	for script_class: Dictionary in ProjectSettings.get_global_class_list():
		if script_class["class"] == &"BackendScenePanel":
			check(script_class["is_abstract"], "it can be created without content")
			return
	fail("there is no BackendScenePanel")


## A scene with these nodes below its root.
func _scene(nodes: Array[Node]) -> Node:
	var scene := Node.new()
	for node in nodes:
		scene.add_child(node)
		node.owner = scene
	add_child(scene)
	return scene


func _warns(node: Node, words: String) -> bool:
	return _warnings(node).contains(words)


## The editor asks the virtual method; so does this.
func _warnings(node: Node) -> String:
	var warnings: PackedStringArray = node.call(&"_get_configuration_warnings")
	return "\n".join(warnings)
