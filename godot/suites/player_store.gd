## Saving players' documents, and reading back what the backend really holds.
extends "res://backend_suite.gd"

const SAVE_TIMEOUT := 30.0

var _registration: BackendServerRegistration
var _store: BackendPlayerStore


func test_a_save_arrives() -> void:
	await open_store()
	var session := await load_new_player()
	var saves := record(_store.saved)
	var progress := {
		"wins": 3, "xp": 120.5, "name": "Ada", "tags": ["a", "b"], "deep": {"on": true, "off": null}
	}
	_store.save(session.player_id, "progress", progress)
	check_eq(_store.get_unsaved_count(), 1, "dirty")
	check_eq(_store.get_document(session.player_id, "progress")["wins"], 3, "own copy")
	await until(func() -> bool: return not saves.is_empty(), SAVE_TIMEOUT, "saved")
	check_eq(saves, [[session.player_id, "progress", 1]], "emissions of saved")
	check_eq(_store.get_unsaved_count(), 0, "dirty after the save")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	if succeeded(documents, "read back"):
		check_eq(documents.keys(), PackedStringArray(["progress"]), "keys")
		check_eq(documents.has_document("progress"), true, "has progress")
		check_eq(documents.get_version("progress"), 1, "version")
		check_eq(documents.get_document("progress"), progress, "document")


func test_the_game_may_go_on_changing_what_it_saved() -> void:
	await open_store()
	var session := await load_new_player()
	var progress := {"wins": 1, "deep": {"list": [1]}}
	_store.save(session.player_id, "progress", progress)
	progress["wins"] = 2
	progress["deep"]["list"].append(2)
	succeeded(await _store.flush().wait(), "flush")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"wins": 1, "deep": {"list": [1]}}, "document")


func test_saves_in_a_row_become_one() -> void:
	await open_store()
	var session := await load_new_player()
	var saves := record(_store.saved)
	for wins in 50:
		_store.save(session.player_id, "progress", {"wins": wins})
	check_eq(_store.get_unsaved_count(), 1, "dirty")
	# Not by a flush, which sends what the journal has already, and again what comes into it meanwhile.
	await until(
		func() -> bool: return _store.get_unsaved_count() == 0, SAVE_TIMEOUT, "nothing dirty"
	)
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"wins": 49}, "document")
	check(
		documents.get_version("progress") <= 2,
		"%d versions for one burst" % documents.get_version("progress")
	)
	check(saves.size() <= 2, "%d emissions of saved for one burst" % saves.size())


func test_versions_grow_with_each_save() -> void:
	await open_store()
	var session := await load_new_player()
	for version: int in [1, 2, 3]:
		_store.save(session.player_id, "progress", {"wins": version})
		succeeded(await _store.save_now(session.player_id).wait(), "save %d" % version)
		var documents: BackendPlayerDocuments = await session.read_documents().wait()
		check_eq(documents.get_version("progress"), version, "version")
		check_eq(documents.get_document("progress"), {"wins": version}, "document")


func test_save_now_does_not_wait_for_company() -> void:
	await open_store()
	_store.debounce_seconds = 3600.0
	_store.max_delay_seconds = 3600.0
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	await frames(60)
	check_eq(_store.get_unsaved_count(), 1, "dirty while it waits for company")
	var flushed: BackendFlushResult = await _store.save_now(session.player_id).wait()
	if succeeded(flushed, "save_now"):
		check_eq(flushed.saved, 1, "saved")
		check_eq(flushed.unsaved, 0, "unsaved")
	check_eq(_store.get_unsaved_count(), 0, "dirty afterwards")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"wins": 1}, "document")


func test_flush_sends_everybody() -> void:
	await open_store()
	_store.debounce_seconds = 3600.0
	_store.max_delay_seconds = 3600.0
	var players: Array[BackendSession] = []
	# First, because a load sends what waits.
	for _index in 12:
		players.append(await load_new_player())
	for index in 12:
		_store.save(players[index].player_id, "progress", {"wins": index})
		_store.save(players[index].player_id, "settings", {"volume": index})
	check_eq(_store.get_unsaved_count(), 24, "dirty")
	var flushed: BackendFlushResult = await _store.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.saved, 24, "saved")
		check_eq(flushed.unsaved, 0, "unsaved")
	check_eq(_store.get_unsaved_count(), 0, "dirty after the flush")
	for index in players.size():
		var documents: BackendPlayerDocuments = await players[index].read_documents().wait()
		check_eq(
			documents.get_document("progress"), {"wins": index}, "progress of player %d" % index
		)
		check_eq(
			documents.get_document("settings"), {"volume": index}, "settings of player %d" % index
		)


func test_flush_with_nothing_to_do() -> void:
	await open_store()
	var flushed: BackendFlushResult = await _store.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.saved, 0, "saved")
		check_eq(flushed.unsaved, 0, "unsaved")


func test_release_saves_then_forgets() -> void:
	await open_store()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 7})
	succeeded(await _store.release_player(session.player_id).wait(), "release")
	check_eq(_store.get_unsaved_count(), 0, "dirty")
	check_eq(_store.get_document(session.player_id, "progress"), {}, "own copy")
	var loaded: BackendPlayerDocuments = await _store.load_player(session.player_id).wait()
	if succeeded(loaded, "load again"):
		check_eq(loaded.get_document("progress"), {"wins": 7}, "document")
	_store.save(session.player_id, "progress", {"wins": 8})
	succeeded(await _store.flush().wait(), "save after loading again")


func test_what_one_server_saved_the_next_one_loads() -> void:
	await open_store()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 7})
	succeeded(await _store.release_player(session.player_id).wait(), "release")
	var first := _store
	await open_store()
	var loaded: BackendPlayerDocuments = await _store.load_player(session.player_id).wait()
	if succeeded(loaded, "load by the next server"):
		check_eq(loaded.get_document("progress"), {"wins": 7}, "document")
		check_eq(loaded.get_version("progress"), 1, "version")
	check(first != _store, "one store twice")


func test_a_patch_changes_what_it_names() -> void:
	await open_store()
	var session := await load_new_player()
	var player := session.player_id
	_store.save(player, "progress", {"wins": 1, "rank": "b", "deep": {"on": true, "off": false}})
	_store.save_patch(player, "progress", {"wins": 2, "rank": null, "deep": {"off": null}})
	_store.save_patch(player, "settings", {"volume": 3, "never": null})
	var expected := {"wins": 2, "deep": {"on": true}}
	check_eq(_store.get_document(player, "progress"), expected, "own copy")
	succeeded(await _store.flush().wait(), "flush")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), expected, "document")
	check_eq(documents.get_document("settings"), {"volume": 3}, "document made by a patch")
	var told := record(_store.save_failed)
	_store.save_patch(player, "progress", {"score": NAN})
	_store.save_patch("nobody", "progress", {"wins": 3})
	await until(func() -> bool: return told.size() == 2, WAIT_TIMEOUT, "save_failed")
	if told.size() == 2:
		check_eq(
			(told[0][2] as BackendError).code, "invalid_field", "code for what JSON cannot hold"
		)
		check_eq((told[1][2] as BackendError).code, "not_loaded", "code for a stranger")


func test_the_same_again_is_no_save() -> void:
	await open_store()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	succeeded(await _store.flush().wait(), "flush")
	_store.save(session.player_id, "progress", {"wins": 1})
	check_eq(_store.get_unsaved_count(), 0, "dirty")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_version("progress"), 1, "version")


func test_who_is_held() -> void:
	await open_store()
	var session := await new_player("Ada")
	check_eq(_store.is_holding(session.player_id), false, "held before")
	succeeded(await _store.load_player(session.player_id).wait(), "load")
	check_eq(_store.is_holding(session.player_id), true, "held")
	succeeded(await _store.release_player(session.player_id).wait(), "release")
	check_eq(_store.is_holding(session.player_id), false, "held afterwards")


func test_what_cannot_be_saved_is_refused_with_a_reason() -> void:
	await open_store()
	var session := await load_new_player()
	var player := session.player_id
	var cyclic := {}
	cyclic["itself"] = cyclic
	await expect_refused(player, "progress", {"blob": "x".repeat(256 * 1024)}, "value", "too large")
	await expect_refused(player, "progress", {"score": NAN}, "value", "not a number")
	await expect_refused(player, "progress", {"score": -INF}, "value", "infinite")
	await expect_refused(player, "progress", {"node": self}, "value", "an object")
	await expect_refused(player, "progress", {"call": open_store}, "value", "a callable")
	await expect_refused(player, "progress", {7: "seven"}, "value", "a key that is no text")
	await expect_refused(player, "progress", cyclic, "value", "a dictionary inside itself")
	await expect_refused(player, "", {"wins": 1}, "key", "no key")
	await expect_refused(player, "with space", {"wins": 1}, "key", "a key with a space")
	await expect_refused(player, "x".repeat(65), {"wins": 1}, "key", "a long key")
	cyclic.clear()
	check_eq(_store.get_unsaved_count(), 0, "dirty")
	_store.save(player, "progress", {"wins": 1})
	succeeded(await _store.flush().wait(), "a good save afterwards")


func test_a_player_that_was_never_loaded_cannot_be_saved() -> void:
	await open_store()
	var stranger := "00000000-0000-7000-8000-000000000000"
	var told := record(_store.save_failed)
	_store.save(stranger, "progress", {"wins": 1})
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "save_failed")
	if not told.is_empty():
		check_eq((told[0][2] as BackendError).code, "not_loaded", "code")
	check_eq(_store.get_unsaved_count(), 0, "dirty")


func test_loading_somebody_who_does_not_exist() -> void:
	await open_store()
	var stranger := "00000000-0000-7000-8000-000000000000"
	failed_with(await _store.load_player(stranger).wait(), "player_not_found", "load")
	failed_with(await _store.load_player("no id at all").wait(), "invalid_field", "load")


func test_an_outage_keeps_saves_dirty_until_it_ends() -> void:
	timeout_seconds = 120.0
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 2.0
	await open_store(config)
	var session := await load_new_player()
	var saves := record(_store.saved)
	var backlog := record(_store.unsaved_changed)
	proxy.cut_line()
	_store.save(session.player_id, "progress", {"wins": 1})
	_store.save_now(session.player_id)
	_store.save(session.player_id, "progress", {"wins": 2})
	# Either answer is right, "not saved" now or "saved" later, but the save itself must outlive
	# every attempt.
	await until(func() -> bool: return not backlog.is_empty(), WAIT_TIMEOUT, "unsaved_changed")
	check_eq(_store.get_unsaved_count(), 1, "dirty during the outage")
	check_eq(saves.size(), 0, "emissions of saved during the outage")
	check_eq(_store.get_document(session.player_id, "progress"), {"wins": 2}, "own copy")
	proxy.connect_line()
	await until(func() -> bool: return _store.get_unsaved_count() == 0, 60.0, "nothing dirty")
	await until(func() -> bool: return backlog.size() >= 2, WAIT_TIMEOUT, "end of the backlog")
	check_eq(backlog[0][0], 1, "documents in the first backlog")
	check_eq(backlog[-1], [0, 0.0], "the last backlog")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"wins": 2}, "document")


func test_collect_saves_comes_at_the_interval() -> void:
	await open_store()
	var session := await load_new_player()
	_store.collect_saves.connect(
		func() -> void: _store.save(session.player_id, "progress", {"collected": true}),
		CONNECT_ONE_SHOT
	)
	var saves := record(_store.saved)
	_store.autosave_interval = 0.5
	await until(func() -> bool: return not saves.is_empty(), SAVE_TIMEOUT, "saved")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"collected": true}, "document")


func test_every_await_returns_when_the_store_is_freed() -> void:
	var proxy := new_proxy()
	await open_store(config_for(proxy.url()))
	var session := await load_new_player()
	var other := await new_player("Eve")
	proxy.cut_line()
	_store.save(session.player_id, "progress", {"wins": 1})
	# What frees a store in a game is often what awaits it: a scene that changes in the middle.
	var results: Array[Object] = []
	for request: BackendRequest in requests_of(session.player_id, other.player_id):
		_await_into(request, results)
	check_eq(results.size(), 0, "results at once")
	_store.free()
	check_eq(results.size(), 6, "results when the store is gone")
	for result in results:
		failed_with(result, "cancelled", "%s" % result.get_class())
	proxy.connect_line()


func test_every_await_returns_when_the_store_leaves_the_tree() -> void:
	var proxy := new_proxy()
	await open_store(config_for(proxy.url()))
	var session := await load_new_player()
	var other := await new_player("Eve")
	proxy.cut_line()
	_store.save(session.player_id, "progress", {"wins": 1})
	var requests := requests_of(session.player_id, other.player_id)
	remove_child(_store)
	for request in requests:
		failed_with(await request.wait(), "cancelled", "request")
	# Its requests are given up; what was saved is not.
	check_eq(_store.get_unsaved_count(), 1, "dirty")
	proxy.connect_line()
	await until(
		func() -> bool: return _store.get_unsaved_count() == 0, SAVE_TIMEOUT, "nothing dirty"
	)
	_store.free()


func test_an_await_without_a_registration_returns() -> void:
	_store = BackendPlayerStore.new()
	add_child(_store)
	for request: BackendRequest in requests_of("somebody", "another"):
		failed_with(await request.wait(), "not_configured", "request")


func test_whole_numbers_stay_whole() -> void:
	await open_store()
	var session := await load_new_player()
	var numbers := {"zero": 0, "small": -7, "large": 9_007_199_254_740_993, "half": 0.5}
	_store.save(session.player_id, "numbers", numbers)
	succeeded(await _store.flush().wait(), "flush")
	var back: Dictionary = (
		(await session.read_documents().wait() as BackendPlayerDocuments).get_document("numbers")
	)
	for key: String in numbers:
		check_eq(back.get(key), numbers[key], key)


func test_every_kind_of_value_that_json_has() -> void:
	await open_store()
	var session := await load_new_player()
	var whole: Array[int] = [1, -2, 9_007_199_254_740_993]
	var nobody: Array[Node] = [null]
	var by_name: Dictionary[StringName, Variant] = {&"on": true, &"off": null}
	var by_text: Dictionary[String, float] = {"half": 0.5}
	(
		_store
		. save(
			session.player_id,
			"progress",
			{
				&"name": &'Ada "the" Frög\n',
				"path": ^"/root/pond:leaf",
				"real": 0.1,
				"whole": whole,
				"nobody": nobody,
				"by_name": by_name,
				"by_text": by_text,
				"bytes": PackedByteArray([1, 2, 255]),
				"small": PackedInt32Array([-1, 2]),
				"large": PackedInt64Array([-9_007_199_254_740_993]),
				"single": PackedFloat32Array([0.5]),
				"double": PackedFloat64Array([0.1]),
				"texts": PackedStringArray(["", "a", "abcd"]),
				"deep": [[{"list": []}], {}],
			}
		)
	)
	var expected := {
		"name": 'Ada "the" Frög\n',
		"path": ^"/root/pond:leaf",
		"real": 0.1,
		"whole": [1, -2, 9_007_199_254_740_993],
		"nobody": [null],
		"by_name": {"on": true, "off": null},
		"by_text": {"half": 0.5},
		"bytes": PackedByteArray([1, 2, 255]),
		"small": PackedInt32Array([-1, 2]),
		"large": PackedInt64Array([-9_007_199_254_740_993]),
		"single": PackedFloat32Array([0.5]),
		"double": PackedFloat64Array([0.1]),
		"texts": PackedStringArray(["", "a", "abcd"]),
		"deep": [[{"list": []}], {}],
	}
	check_eq(_store.get_document(session.player_id, "progress"), expected, "own copy")
	succeeded(await _store.flush().wait(), "flush")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), expected, "document")
	# The same again, in another order and as other types that JSON does not tell apart.
	var change := _store.save(session.player_id, "settings", {"a": 1, "b": [0.5], "c": "x"})
	var floats: Array[float] = [0.5]
	var again := {&"c": &"x", "b": floats, "a": 1}
	check_eq(_store.save(session.player_id, "settings", again), change, "change of the same")
	again["a"] = 2
	check(_store.save(session.player_id, "settings", again) > change, "a change is none")


func test_a_refused_save_is_told_by_whoever_is_asked() -> void:
	await open_store()
	var session := await load_new_player()
	var player := session.player_id
	_store.save(player, "progress", {"at": Vector3(NAN, 0, 0)})
	_store.save_patch(player, "settings", {"node": self})
	_store.save("nobody", "progress", {"wins": 1})
	failed_with(await _store.save_now(player).wait(), "invalid_field", "save_now")
	var flushed: BackendFlushResult = await _store.flush().wait()
	succeeded(flushed, "flush")
	check_eq(flushed.refused, 3, "refused")
	flushed = await _store.flush_local().wait()
	check_eq(flushed.refused, 2, "who is not here is told once")
	_store.save(player, "progress", {"at": [1, 1, 1]})
	_store.save_patch(player, "settings", {"volume": 3})
	flushed = await _store.save_now(player).wait()
	succeeded(flushed, "save_now after good saves")
	check_eq([flushed.saved, flushed.refused], [2, 0], "saved and refused")


func test_a_player_who_is_being_released_is_final() -> void:
	await open_store()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	var request := _store.release_player(session.player_id)
	await get_tree().process_frame
	var told := record(_store.save_failed)
	check_eq(_store.save(session.player_id, "progress", {"wins": 2}), 0, "change")
	succeeded(await request.wait(), "release")
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "save_failed")
	if not told.is_empty():
		check_eq((told[0][2] as BackendError).code, "not_loaded", "code")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"wins": 1}, "document")


func test_a_refusal_names_the_place() -> void:
	await open_store()
	var session := await load_new_player()
	var told := record(_store.save_failed)
	_store.save(session.player_id, "progress", {"frogs": [{"at": self}]})
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "save_failed")
	if not told.is_empty():
		check_eq((told[0][2] as BackendError).field, "value.frogs[0].at", "field")


func open_store(config: BackendConfig = null) -> void:
	_registration = await new_server("Store", config)
	_store = BackendPlayerStore.new()
	_store.config = config
	_store.registration = _registration
	add_child(_store)


## One of each kind.
func requests_of(player_id: String, other_id: String) -> Array[BackendRequest]:
	return [
		_store.save_now(player_id),
		_store.flush(),
		_store.load_player(other_id),
		_store.list_conflicts(player_id),
		_store.release_player(player_id),
		_store.load_player(player_id),
	]


## A new player, loaded by the store; the session reads back on the player's own account.
func load_new_player() -> BackendSession:
	var session := await new_player("Ada")
	var loaded: BackendPlayerDocuments = await _store.load_player(session.player_id).wait()
	succeeded(loaded, "load")
	return session


func _await_into(request: BackendRequest, results: Array[Object]) -> void:
	results.append(await request.wait() as Object)


func expect_refused(
	player: String, key: String, value: Dictionary, field: String, what: String
) -> void:
	var told := record(_store.save_failed)
	_store.save(player, key, value)
	await until(
		func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "save_failed for %s" % what
	)
	if told.is_empty():
		return
	check_eq(told[0].slice(0, 2), [player, key], "what failed: %s" % what)
	var error: BackendError = told[0][2]
	check_eq(error.code, "invalid_field", "%s: code" % what)
	check(error.field.begins_with(field), "%s: field is %s" % [what, error.field])
	check_eq(error.retryable, false, "%s: retryable" % what)
