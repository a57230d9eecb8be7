## Runs the `test_*` methods of every script in `suites/`, prints one line a test, and exits 1 on
## any failure.
##
##     godot --headless --path godot --import          # once, so that the extension is found
##     godot --headless --path godot -s res://run.gd -- [filter] [--self-check]
##
## A test fails on a failed check, on a script error, on an engine error it did not announce, on its
## timeout, and on objects or orphan nodes that are still there after it. `filter` keeps the tests
## whose `suite::test` contains it. `--self-check` runs `self_check/` instead and fails unless
## exactly the expected failures are found.
extends SceneTree

enum Stage { NEXT, RUNNING, SETTLING, OVER }

const SUITES := "res://suites"
const FIRST := "shutdown.gd"
const SELF_CHECK := "res://self_check"
const Suite := preload("res://suite.gd")
## Results and closed sockets may need a few frames to let go of their objects.
const SETTLE_SECONDS := 5.0
## Where the extension keeps sessions and keys: a run starts with nothing kept by the one before.
const KEPT := "user://backend_client"


## Collects what the engine and the scripts report as errors, from any thread.
class ErrorCatcher:
	extends Logger

	var _mutex := Mutex.new()
	var _lines: PackedStringArray = []

	func _log_error(
		_function: String,
		file: String,
		line: int,
		code: String,
		rationale: String,
		_editor_notify: bool,
		error_type: int,
		_backtraces: Array[ScriptBacktrace],
	) -> void:
		if error_type == ERROR_TYPE_WARNING:
			return
		var text := code if rationale.is_empty() else "%s [%s]" % [rationale, code]
		_mutex.lock()
		_lines.append("%s:%d %s" % [file, line, text])
		_mutex.unlock()

	func take() -> PackedStringArray:
		_mutex.lock()
		var taken := _lines.duplicate()
		_lines.clear()
		_mutex.unlock()
		return taken


class Planned:
	extends RefCounted

	var source: GDScript
	var method: String
	var title: String


var _errors := ErrorCatcher.new()
var _self_check := false
var _plan: Array[Planned] = []
var _passed := 0
var _failed := 0

# Scenes that suites show before the first test: what the engine makes for them once is no leak.
var _shown: Array[Node] = []
var _frames_to_show := 0

var _stage := Stage.NEXT
var _current: Planned
var _suite: Suite
var _failures: PackedStringArray = []
var _expected: PackedStringArray = []
var _tolerated: PackedStringArray = []
var _objects_before: Dictionary[StringName, int] = {}
var _deadline := 0


func _initialize() -> void:
	OS.add_logger(_errors)
	_remove(KEPT)
	var filter := ""
	for argument in OS.get_cmdline_user_args():
		if argument == "--self-check":
			_self_check = true
		elif not argument.begins_with("--"):
			filter = argument
	var folder := SELF_CHECK if _self_check else SUITES
	var files := Array(DirAccess.get_files_at(folder))
	# A shutdown counts what the whole process owes. Other suites leave documents behind on purpose.
	files.sort_custom(
		func(one: String, other: String) -> bool: return one == FIRST and other != FIRST
	)
	for file: String in files:
		if file.get_extension() == "gd":
			_plan_suite(folder.path_join(file), filter)


## The runner steps once a frame and awaits nothing itself: a pending `await` is an object, and
## would blur the count of what a test leaks.
func _process(_delta: float) -> bool:
	if _frames_to_show > 0:
		_show_scenes()
		return false
	match _stage:
		Stage.NEXT:
			if _plan.is_empty():
				print("%d passed, %d failed" % [_passed, _failed])
				quit(1 if _failed > 0 or _passed == 0 else 0)
				_stage = Stage.OVER
			else:
				_start(_plan.pop_front() as Planned)
		Stage.RUNNING:
			if _suite.finished:
				_stop()
			elif Time.get_ticks_msec() > _deadline:
				_suite.fail("not finished within %.1f s" % _suite.timeout_seconds)
				_stop()
		Stage.SETTLING:
			if not _grown() or Time.get_ticks_msec() > _deadline:
				_finish()
	return false


func _show_scenes() -> void:
	_frames_to_show -= 1
	if _frames_to_show == 0:
		for scene: Node in _shown:
			scene.free()
		_shown.clear()


func _plan_suite(path: String, filter: String) -> void:
	var script := load(path) as GDScript
	var word := path.get_file().get_basename()
	if script == null or not script.can_instantiate():
		_report(word + "::*", ["the suite does not load: " + "; ".join(_errors.take())])
		return
	for scene: PackedScene in script.get_script_constant_map().get("SHOWN_FIRST", []):
		_shown.append(scene.instantiate())
		root.add_child(_shown[-1])
		_frames_to_show = 3
	var methods := script.get_script_method_list()
	for test: String in _expected_failures(script):
		if not methods.any(func(method: Dictionary) -> bool: return method["name"] == test):
			_report("%s::%s" % [word, test], ["expected to fail, but there is no such test"])
	for method in methods:
		var planned := Planned.new()
		planned.source = script
		planned.method = method["name"]
		planned.title = "%s::%s" % [word, planned.method]
		if (
			planned.method.begins_with("test_")
			and (filter.is_empty() or planned.title.contains(filter))
		):
			_plan.append(planned)


func _start(planned: Planned) -> void:
	_current = planned
	_failures = []
	_objects_before = _objects()
	_suite = planned.source.new() as Suite
	_suite.name = planned.title.get_slice("::", 0)
	root.add_child(_suite)
	_deadline = Time.get_ticks_msec() + int(_suite.timeout_seconds * 1000.0)
	_stage = Stage.RUNNING
	_drive(_suite, planned.method)
	# The test may have changed its timeout before its first await.
	_deadline = Time.get_ticks_msec() + int(_suite.timeout_seconds * 1000.0)


func _drive(suite: Suite, method: String) -> void:
	await suite.call(method)
	if is_instance_valid(suite):
		suite.finished = true


func _stop() -> void:
	# A test that was given up still holds what it waits with; its leaks would only repeat that it
	# hangs.
	if not _suite.finished:
		_objects_before.clear()
	_failures = _suite.failures.duplicate()
	_expected = _suite.expected_errors.duplicate()
	_tolerated = _suite.tolerated_errors.duplicate()
	_suite.free()
	_suite = null
	_deadline = Time.get_ticks_msec() + int(SETTLE_SECONDS * 1000.0)
	_stage = Stage.SETTLING


func _finish() -> void:
	_failures.append_array(_unexpected_errors())
	if _grown():
		var now := _objects()
		for kind: StringName in _objects_before:
			if now[kind] > _objects_before[kind]:
				_failures.append("leaked %d %s" % [now[kind] - _objects_before[kind], kind])
		Node.print_orphan_nodes()
	if _self_check:
		_failures = _unplanned(_current, _failures)
	_report(_current.title, _failures)
	_stage = Stage.NEXT


func _grown() -> bool:
	var now := _objects()
	for kind: StringName in _objects_before:
		if now[kind] > _objects_before[kind]:
			return true
	return false


func _objects() -> Dictionary[StringName, int]:
	return {
		&"objects": int(Performance.get_monitor(Performance.OBJECT_COUNT)),
		&"orphan nodes": int(Performance.get_monitor(Performance.OBJECT_ORPHAN_NODE_COUNT)),
	}


func _unexpected_errors() -> PackedStringArray:
	var found: PackedStringArray = []
	for line in _errors.take():
		var known := Array(_expected).find_custom(
			func(part: String) -> bool: return line.contains(part)
		)
		if known >= 0:
			_expected.remove_at(known)
		elif not Array(_tolerated).any(func(part: String) -> bool: return line.contains(part)):
			found.append("engine error: " + line)
	for part in _expected:
		found.append("expected engine error missing: " + part)
	return found


## What differs from the failures that the suite expects: {test: a part of each failure, in order}.
func _unplanned(planned: Planned, failures: PackedStringArray) -> PackedStringArray:
	var expected: Array = _expected_failures(planned.source).get(planned.method, [])
	var matches := failures.size() == expected.size()
	for index in mini(failures.size(), expected.size()):
		matches = matches and failures[index].contains(str(expected[index]))
	return [] if matches else PackedStringArray(["expected %s, found %s" % [expected, failures]])


func _remove(folder: String) -> void:
	if not DirAccess.dir_exists_absolute(folder):
		return
	for inner in DirAccess.get_directories_at(folder):
		_remove(folder.path_join(inner))
	for file in DirAccess.get_files_at(folder):
		DirAccess.remove_absolute(folder.path_join(file))
	DirAccess.remove_absolute(folder)


func _expected_failures(script: GDScript) -> Dictionary:
	return script.get_script_constant_map().get("EXPECTED_FAILURES", {})


func _report(title: String, failures: PackedStringArray) -> void:
	print("%s %s" % ["ok  " if failures.is_empty() else "FAIL", title])
	for line in failures:
		print("       ", line)
	if failures.is_empty():
		_passed += 1
	else:
		_failed += 1
