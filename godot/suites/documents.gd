## Documents through store, journal, backend and back: types and texts survive, bit for bit.
extends "res://backend_suite.gd"

const RandomDocuments := preload("res://random_documents.gd")
const DOCUMENTS := 150
const TYPES := "backend_client/documents/godot_types"

var _registration: BackendServerRegistration
var _store: BackendPlayerStore
var _negative_zero: float = RandomDocuments.negative_zero()


func test_a_float_stays_a_float() -> void:
	await open_store()
	var session := await load_new_player()
	await save(
		session,
		"progress",
		{"hp": 3.0, "level": 3, "list": [1.0, 2], "deep": {"zero": _negative_zero}}
	)
	for loaded: Dictionary in await everywhere(session, "progress"):
		check_eq(loaded["hp"], 3.0, "float")
		check_eq(loaded["hp"] / 2, 1.5, "half of a float")
		check_eq(loaded["level"], 3, "int")
		check_eq(loaded["level"] / 2, 1, "half of an int")
		check_eq(typeof(loaded["list"][0]), TYPE_FLOAT, "float in a list")
		check_eq(typeof(loaded["list"][1]), TYPE_INT, "int in a list")
		check(
			RandomDocuments.is_same_document(loaded["deep"]["zero"], _negative_zero),
			"negative zero"
		)


func test_a_text_keeps_its_first_character() -> void:
	await open_store()
	var session := await load_new_player()
	var document := {
		"\ufeffa": "\ufeffb", "a": "b", "\ufeff": 1, "": 2, &"\ufeff\ufeff": [&"\ufeff"]
	}
	await save(session, "progress", document)
	for loaded: Dictionary in await everywhere(session, "progress"):
		check_eq(loaded.size(), 5, "members")
		check_eq(loaded.get("\ufeffa"), "\ufeffb", "with U+FEFF")
		check_eq(loaded.get("a"), "b", "without")
		check_eq(loaded.get("\ufeff"), 1, "U+FEFF alone")
		check_eq(loaded.get("\ufeff\ufeff"), ["\ufeff"], "twice")


func test_what_was_loaded_is_saved_without_a_change() -> void:
	await open_store()
	var session := await load_new_player()
	var documents := RandomDocuments.new(7)
	var document := documents.next()
	document["hp"] = 3.0
	document["zero"] = _negative_zero
	await save(session, "progress", document)
	# The next holder knows it from the backend only.
	succeeded(await _store.release_player(session.player_id).wait(), "release")
	await close_store()
	await open_store()
	succeeded(await _store.load_player(session.player_id).wait(), "load")
	var loaded := _store.get_document(session.player_id, "progress")
	_store.save(session.player_id, "progress", loaded)
	check_eq(_store.get_unsaved_count(), 0, "dirty after saving what was loaded")
	_store.save(session.player_id, "progress", document)
	check_eq(_store.get_unsaved_count(), 0, "dirty after saving what was saved")
	loaded["zero"] = 0.0
	_store.save(session.player_id, "progress", loaded)
	check_eq(_store.get_unsaved_count(), 1, "0.0 is not -0.0")
	loaded["zero"] = _negative_zero
	loaded["hp"] = 3
	var change := _store.save(session.player_id, "progress", loaded)
	check(_store.save(session.player_id, "progress", document) > change, "3 is not 3.0")
	succeeded(await _store.flush().wait(), "flush")


func test_a_value_of_godot_stays_one() -> void:
	await open_store()
	var session := await load_new_player()
	var document := godot_values()
	await save(session, "progress", document)
	for loaded: Dictionary in await everywhere(session, "progress"):
		for key: String in document:
			check_eq(typeof(loaded.get(key)), typeof(document[key]), key)
			check_eq(loaded.get(key), document[key], key)
	var loaded := _store.get_document(session.player_id, "progress")
	_store.save(session.player_id, "progress", loaded)
	check_eq(_store.get_unsaved_count(), 0, "dirty after saving what was loaded")
	_store.save_patch(session.player_id, "progress", {"vector3": Vector3.ONE, "map": Color.RED})
	succeeded(await _store.flush().wait(), "flush")
	for patched: Dictionary in await everywhere(session, "progress"):
		check_eq(patched["vector3"], Vector3.ONE, "patched")
		check_eq(patched["map"], Color.RED, "patched from a Dictionary")
		check_eq(patched["basis"], document["basis"], "not patched")


func test_plain_json_keeps_no_types() -> void:
	await open_store()
	var session := await load_new_player()
	var document := {"at": Vector2(1.5, 2), "bytes": PackedByteArray([1, 2]), "$godot": "mine"}
	await save(session, "progress", document)
	ProjectSettings.set_setting(TYPES, false)
	_store.save(session.player_id, "plain", {"bytes": PackedByteArray([1, 2]), "$godot": "mine"})
	var told := record(_store.save_failed)
	_store.save(session.player_id, "refused", {"at": Vector2.ONE})
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "save_failed")
	if not told.is_empty():
		var error: BackendError = told[0][2]
		check_eq(error.field, "value.at", "field")
		check(TYPES in error.message, "the message names the setting: %s" % error.message)
	succeeded(await _store.flush().wait(), "flush")
	for loaded: Dictionary in await everywhere(session, "progress"):
		check_eq(loaded["at"], {"$godot": "Vector2", "value": [1.5, 2.0]}, "a Vector2 in JSON")
		check_eq(loaded["bytes"], {"$godot": "PackedByteArray", "value": "AQI="}, "bytes in JSON")
		check_eq(loaded.get("$$godot"), "mine", "the escaped key in JSON")
	for loaded: Dictionary in await everywhere(session, "plain"):
		check_eq(loaded, {"bytes": [1, 2], "$godot": "mine"}, "plain")
	ProjectSettings.set_setting(TYPES, true)


func test_what_only_looks_like_a_value_of_godot_stays_a_dictionary() -> void:
	await open_store()
	var session := await load_new_player()
	var document := {
		"short": {"$godot": "Vector2", "value": [1.0]},
		"long": {"$godot": "Vector2", "value": [1.0, 2.0, 3.0]},
		"text": {"$godot": "Vector2", "value": "1, 2"},
		"unknown": {"$godot": "Vector9", "value": [1.0]},
		"object": {"$godot": "Object", "value": "RefCounted"},
		"without": {"$godot": "Vector2"},
		"more": {"$godot": "Vector2", "value": [1.0, 2.0], "x": 1},
		"too large": {"$godot": "Vector2i", "value": [1, 4_294_967_296]},
		"infinite": {"$godot": "Color", "value": [1e300, 0.0, 0.0, 0.0]},
		"no base64": {"$godot": "PackedByteArray", "value": "*"},
		"odd": {"$godot": "PackedVector2Array", "value": [1.0, 2.0, 3.0]},
		"mixed": {"$godot": "PackedStringArray", "value": ["a", 1]},
	}
	# As another program writes it.
	ProjectSettings.set_setting(TYPES, false)
	await save(session, "progress", document)
	ProjectSettings.set_setting(TYPES, true)
	for loaded: Dictionary in await everywhere(session, "progress"):
		for key: String in document:
			check_eq(loaded.get(key), document[key], key)


func godot_values() -> Dictionary:
	return {
		"vector2": Vector2(0.1, -2.5),
		"vector2i": Vector2i(1, -2),
		"rect2": Rect2(0.1, 0.2, 3, 4),
		"rect2i": Rect2i(1, 2, 3, 4),
		"vector3": Vector3(0.1, 1e-20, 1e20),
		"vector3i": Vector3i(1, 2, -2_147_483_648),
		"transform2d": Transform2D(0.3, Vector2(2, 3), 0.1, Vector2(4, 5)),
		"vector4": Vector4(0.1, 0.2, 0.3, 0.4),
		"vector4i": Vector4i(1, 2, 3, 4),
		"plane": Plane(0.1, 0.2, 0.3, 0.4),
		"quaternion": Quaternion(Vector3(1, 2, 3).normalized(), 0.5),
		"aabb": AABB(Vector3(0.1, 0.2, 0.3), Vector3(4, 5, 6)),
		"basis": Basis(Vector3(1, 2, 3).normalized(), 0.7),
		"transform3d": Transform3D(Basis(Vector3.UP, 0.7), Vector3(0.1, 0.2, 0.3)),
		"projection": Projection.create_perspective(70, 1.5, 0.1, 100),
		"color": Color(0.1, 0.2, 0.3, 0.4),
		"path": ^"/root/pond:leaf",
		"bytes": PackedByteArray([0, 1, 254, 255]),
		"no_bytes": PackedByteArray(),
		"int32": PackedInt32Array([-1, 2]),
		"int64": PackedInt64Array([-9_007_199_254_740_993]),
		"float32": PackedFloat32Array([0.1, -3.0]),
		"float64": PackedFloat64Array([0.1]),
		"strings": PackedStringArray(["", "a", "Frög"]),
		"vectors2": PackedVector2Array([Vector2(0.1, 2), Vector2(3, 4)]),
		"vectors3": PackedVector3Array([Vector3(0.1, 2, 3), Vector3(4, 5, 6)]),
		"vectors4": PackedVector4Array([Vector4(0.1, 2, 3, 4)]),
		"colors": PackedColorArray([Color.RED, Color(0.1, 0.2, 0.3, 0.4)]),
		"deep": [{"at": Vector2.ONE, "list": [Vector3i.ONE]}],
		"map": {"x": 1},
		"$godot": "mine",
		"$$godot": {"$godot": "Vector2", "value": [1.0, 2.0]},
	}


## Other documents in each run. [code]DOCUMENT_SEED[/code] repeats one, and
## [code]DOCUMENT_ROUNDS[/code] makes it longer.
func test_documents_at_random_come_back_as_they_were() -> void:
	var rounds := maxi(OS.get_environment("DOCUMENT_ROUNDS").to_int(), 1)
	var from := OS.get_environment("DOCUMENT_SEED").to_int()
	if from == 0:
		from = randi()
	timeout_seconds = 180.0 * rounds
	for number: int in rounds:
		await check_random_documents(from + number * DOCUMENTS)


func check_random_documents(first_seed: int) -> void:
	await open_store()
	var session := await load_new_player()
	var saved: Array[Dictionary] = []
	for index in DOCUMENTS:
		saved.append(RandomDocuments.new(first_seed + index).next())
		_store.save(session.player_id, "document-%d" % index, saved[index])
	succeeded(await _store.flush().wait(), "flush")
	succeeded(await _store.release_player(session.player_id).wait(), "release")
	await close_store()
	await open_store()
	var loaded: BackendPlayerDocuments = await _store.load_player(session.player_id).wait()
	succeeded(loaded, "load")
	var read: BackendPlayerDocuments = await session.read_documents().wait()
	succeeded(read, "read")
	for index in DOCUMENTS:
		var key := "document-%d" % index
		for back: Dictionary in [
			loaded.get_document(key),
			read.get_document(key),
			_store.get_document(session.player_id, key)
		]:
			check(
				RandomDocuments.is_same_document(saved[index], back),
				(
					"DOCUMENT_SEED=%d: %s became %s"
					% [first_seed + index, var_to_str(saved[index]), var_to_str(back)]
				)
			)
		_store.save(session.player_id, key, loaded.get_document(key))
	check_eq(_store.get_unsaved_count(), 0, "dirty after saving what was loaded")
	await close_store()


func test_a_patch_and_a_conflict_keep_types() -> void:
	await open_store()
	var session := await load_new_player()
	await save(session, "progress", {"hp": 1.0, "gone": 1, "deep": {"kept": 2.0}})
	_store.save_patch(
		session.player_id,
		"progress",
		{"hp": 3.0, "gone": null, "\ufeffnew": _negative_zero, "deep": {"n": 1}}
	)
	succeeded(await _store.flush().wait(), "flush")
	var expected := {"hp": 3.0, "\ufeffnew": _negative_zero, "deep": {"kept": 2.0, "n": 1}}
	for loaded: Dictionary in await everywhere(session, "progress"):
		check(
			RandomDocuments.is_same_document(loaded, expected), "patched: %s" % var_to_str(loaded)
		)
	_store.save_patch(session.player_id, "progress", {"\ufeffnew": 0.0})
	check_eq(_store.get_unsaved_count(), 1, "a patch from -0.0 to 0.0")
	succeeded(await _store.flush().wait(), "flush")


## What a comparison that sees nothing would let pass.
func test_the_comparison_tells_apart() -> void:
	for pair: Array in [
		[3, 3.0],
		[0.0, _negative_zero],
		["\ufeffa", "a"],
		["\u00e9", "e\u0301"],
		[[], {}],
		[[1], [1, 1]],
		[{"a": 1}, {"a": 1.0}],
		[{"\ufeff": 1}, {"": 1}],
		[null, false],
	]:
		check(not RandomDocuments.is_same_document(pair[0], pair[1]), "%s and %s" % pair)
		check(RandomDocuments.is_same_document(pair[0], pair[0]), "%s and itself" % [pair[0]])


func open_store() -> void:
	_registration = await new_server("Documents")
	_store = BackendPlayerStore.new()
	_store.registration = _registration
	add_child(_store)


func close_store() -> void:
	_store.queue_free()
	_registration.queue_free()
	await frames(2)


func load_new_player() -> BackendSession:
	var session := await new_player("Ada")
	succeeded(await _store.load_player(session.player_id).wait(), "load")
	return session


func save(session: BackendSession, key: String, document: Dictionary) -> void:
	_store.save(session.player_id, key, document)
	succeeded(await _store.flush().wait(), "flush")


## The document as the store has it, and as the backend gives it out.
func everywhere(session: BackendSession, key: String) -> Array[Dictionary]:
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	succeeded(documents, "read")
	return [_store.get_document(session.player_id, key), documents.get_document(key)]
