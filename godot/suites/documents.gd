## Documents through store, journal, backend and back: types and texts survive, bit for bit.
extends "res://backend_suite.gd"

const RandomDocuments := preload("res://random_documents.gd")
const DOCUMENTS := 150

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


func test_documents_at_random_come_back_as_they_were() -> void:
	timeout_seconds = 180.0
	await open_store()
	var session := await load_new_player()
	var saved: Array[Dictionary] = []
	for index in DOCUMENTS:
		saved.append(RandomDocuments.new(index).next())
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
				"seed %d: %s became %s" % [index, var_to_str(saved[index]), var_to_str(back)]
			)
		_store.save(session.player_id, key, loaded.get_document(key))
	check_eq(_store.get_unsaved_count(), 0, "dirty after saving what was loaded")


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
