## Saves on local disk: what is safe before the backend has it, and what is told when it is not.
extends "res://backend_suite.gd"

const SAVE_TIMEOUT := 30.0
const FOLDER := "user://journal_suite"
const MONITORS: PackedStringArray = [
	"backend_client/unsaved_documents",
	"backend_client/oldest_unsaved_seconds",
	"backend_client/flush_latency_ms",
]

var _registration: BackendServerRegistration
var _store: BackendPlayerStore


func test_a_save_is_safe_before_the_backend_has_it() -> void:
	timeout_seconds = 120.0
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 3.0
	await open_store(config)
	var session := await load_new_player()
	var local := record(_store.saved_locally)
	var remote := record(_store.saved)
	proxy.cut_line()
	check_eq(_store.save(session.player_id, "progress", {"wins": 1}), 1, "number of the change")
	await until(func() -> bool: return not local.is_empty(), SAVE_TIMEOUT, "saved_locally")
	check_eq(local, [[session.player_id, "progress", 1]], "emissions of saved_locally")
	check_eq(remote.size(), 0, "emissions of saved")
	check_eq(_store.get_unsaved_count(), 1, "dirty")
	check_eq(_store.get_unjournalled_count(), 0, "unjournalled")
	var flushed: BackendFlushResult = await _store.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.saved, 0, "saved")
		check_eq(flushed.unsaved, 1, "unsaved")
		check_eq(flushed.journalled, 1, "journalled")
		check_eq(flushed.conflicted, 0, "conflicted")
	proxy.connect_line()
	await until(func() -> bool: return not remote.is_empty(), 60.0, "saved")
	check_eq(remote, [[session.player_id, "progress", 1]], "emissions of saved")


func test_what_is_saved_after_the_journal_is_not_covered_by_what_it_announces() -> void:
	await open_store()
	var session := await load_new_player()
	var local := record(_store.saved_locally)
	_store.save(session.player_id, "progress", {"wins": 1})
	# The journal has it before the main loop turns again.
	while _store.get_unjournalled_count() > 0:
		OS.delay_msec(1)
	var change := _store.save(session.player_id, "progress", {"wins": 2})
	check_eq(change, 2, "number of the second change")
	await until(func() -> bool: return local.size() == 2, SAVE_TIMEOUT, "saved_locally")
	check_eq(local[0], [session.player_id, "progress", 1], "what the first write covers")
	check_eq(local[1], [session.player_id, "progress", 2], "what the second write covers")
	check_eq(_store.save(session.player_id, "no such key!", {}), 0, "number of a refused change")


func test_flush_local_waits_for_the_disk_only() -> void:
	var proxy := new_proxy()
	await open_store(config_for(proxy.url()))
	var session := await load_new_player()
	proxy.cut_line()
	for index in 20:
		_store.save(session.player_id, "progress-%d" % index, {"wins": index})
	check_eq(_store.get_unsaved_count(), 20, "dirty")
	var flushed: BackendFlushResult = await _store.flush_local().wait()
	if succeeded(flushed, "flush_local"):
		check_eq(flushed.saved, 0, "saved")
		check_eq(flushed.unsaved, 20, "unsaved")
		check_eq(flushed.journalled, 20, "journalled")
	check_eq(_store.get_unjournalled_count(), 0, "unjournalled")
	proxy.connect_line()


func test_the_journal_has_a_folder_for_each_backend() -> void:
	var proxy := new_proxy()
	await open_store(config_for(proxy.url()))
	await load_new_player()
	var kept := Array(DirAccess.get_directories_at("user://backend_client"))
	var own := "127.0.0.1-%s-" % proxy.url().get_slice(":", 2)
	var at := kept.find_custom(func(folder: String) -> bool: return folder.begins_with(own))
	if check(at >= 0, "no folder %s… among %s" % [own, kept]):
		var folder := "user://backend_client/%s/journal" % kept[at]
		check(FileAccess.file_exists(folder + "/journal-0.db"), "no journal in %s" % folder)


func test_the_environment_says_where_the_journal_is() -> void:
	_remove_folder()
	OS.set_environment("BACKEND_JOURNAL_FOLDER", FOLDER)
	await open_store()
	var session := await load_new_player()
	OS.unset_environment("BACKEND_JOURNAL_FOLDER")
	check(FileAccess.file_exists(FOLDER + "/journal-0.db"), "no journal in %s" % FOLDER)
	_store.save(session.player_id, "progress", {"wins": 1})
	succeeded(await _store.flush().wait(), "flush")


func test_a_folder_inside_the_game_is_refused() -> void:
	tolerate_errors("players cannot be saved")
	ProjectSettings.set_setting("backend_client/journal/folder", "res://journal")
	await open_store()
	var session := await new_player("Ada")
	failed_with(
		await _store.load_player(session.player_id).wait(),
		"invalid_field",
		"load",
		"journal_folder"
	)
	check(
		"\n".join(_store._get_configuration_warnings()).contains("res://"),
		"no configuration warning"
	)
	ProjectSettings.set_setting("backend_client/journal/folder", "")


func test_without_a_journal_saves_arrive_and_the_game_is_told() -> void:
	timeout_seconds = 120.0
	tolerate_errors("the journal cannot be used")
	_remove_folder()
	FileAccess.open(FOLDER, FileAccess.WRITE).store_string("a file where the folder should be")
	OS.set_environment("BACKEND_JOURNAL_FOLDER", FOLDER)
	await open_store()
	var failures_told := record(_store.journal_failed)
	var recoveries := record(_store.journal_recovered)
	var local := record(_store.saved_locally)
	var session := await load_new_player()
	OS.unset_environment("BACKEND_JOURNAL_FOLDER")
	await until(func() -> bool: return not failures_told.is_empty(), WAIT_TIMEOUT, "journal_failed")
	if not failures_told.is_empty():
		check_eq((failures_told[0][0] as BackendError).code, "journal", "code")
	_store.save(session.player_id, "progress", {"wins": 1})
	check_eq(_store.get_unjournalled_count(), 1, "unjournalled")
	await until(
		func() -> bool: return _store.get_unsaved_count() == 0, SAVE_TIMEOUT, "nothing dirty"
	)
	check_eq(local.size(), 0, "emissions of saved_locally without a journal")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"wins": 1}, "document")

	DirAccess.remove_absolute(FOLDER)
	await until(func() -> bool: return not recoveries.is_empty(), 60.0, "journal_recovered")
	_store.save(session.player_id, "progress", {"wins": 2})
	await until(func() -> bool: return not local.is_empty(), SAVE_TIMEOUT, "saved_locally")
	check_eq(failures_told.size(), 1, "emissions of journal_failed")


func test_a_damaged_journal_is_told_and_set_aside() -> void:
	# One that no store of another test has open.
	var folder := FOLDER + "_damaged"
	DirAccess.make_dir_recursive_absolute(folder)
	for file in DirAccess.get_files_at(folder):
		DirAccess.remove_absolute(folder.path_join(file))
	var damaged := folder.path_join("journal-0.db")
	FileAccess.open(damaged, FileAccess.WRITE).store_string("no journal at all ".repeat(1000))
	var before := FileAccess.get_file_as_bytes(damaged)
	OS.set_environment("BACKEND_JOURNAL_FOLDER", folder)
	await open_store()
	var warnings := record(_store.journal_warning)
	var failures_told := record(_store.journal_failed)
	var local := record(_store.saved_locally)
	var session := await load_new_player()
	OS.unset_environment("BACKEND_JOURNAL_FOLDER")
	var place := ProjectSettings.globalize_path(damaged)
	var told := func(warning: Array) -> bool: return (warning[0] as String).contains(place)
	await until(func() -> bool: return warnings.any(told), WAIT_TIMEOUT, "journal_warning")
	_store.save(session.player_id, "progress", {"wins": 1})
	await until(func() -> bool: return not local.is_empty(), SAVE_TIMEOUT, "saved_locally")
	check_eq(failures_told.size(), 0, "emissions of journal_failed")
	check(FileAccess.file_exists(folder.path_join("journal-1.db")), "no journal beside the damaged")
	var kept := false
	for file in DirAccess.get_files_at(folder):
		kept = kept or FileAccess.get_file_as_bytes(folder.path_join(file)) == before
	check(kept, "the damaged journal is nowhere as it was: %s" % DirAccess.get_files_at(folder))


func test_a_store_made_anew_finds_its_server_still_listed() -> void:
	await open_store()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	succeeded(await _store.flush().wait(), "flush")
	_store.free()
	# Time for the first one to let go of its journal, which is then the second one's.
	await frames(60)
	_store = new_store(null)
	var loaded: BackendPlayerDocuments = await _store.load_player(session.player_id).wait()
	if succeeded(loaded, "load"):
		check_eq(loaded.get_document("progress"), {"wins": 1}, "document")
	_store.save(session.player_id, "progress", {"wins": 2})
	succeeded(await _store.flush().wait(), "flush")
	# Had the new store taken the journal for a dead server's, it would have ended this one.
	var room: BackendRoomResult = await (
		new_rooms(session).get_room(_registration.server_id).wait()
	)
	succeeded(room, "room")
	check_eq(_store.is_holding(session.player_id), true, "held")


func test_a_store_outside_the_tree_keeps_its_players() -> void:
	await open_store()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	remove_child(_store)
	await frames(5)
	add_child(_store)
	check_eq(_store.is_holding(session.player_id), true, "held")
	_store.save(session.player_id, "progress", {"wins": 2})
	succeeded(await _store.flush().wait(), "flush")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"wins": 2}, "document")


func test_a_freed_store_lets_its_players_go() -> void:
	await open_store()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	_store.free()
	await open_store()
	var loaded: BackendPlayerDocuments = await _store.load_player(session.player_id).wait()
	if succeeded(loaded, "load by the next server"):
		check_eq(loaded.get_document("progress"), {"wins": 1}, "document")


func test_the_debugger_shows_what_waits() -> void:
	for monitor in MONITORS:
		check(not Performance.has_custom_monitor(monitor), "%s before the first store" % monitor)
	var proxy := new_proxy()
	await open_store(config_for(proxy.url()))
	var session := await load_new_player()
	for monitor in MONITORS:
		if not check(Performance.has_custom_monitor(monitor), "no monitor %s" % monitor):
			return
		check_eq(Performance.get_custom_monitor(monitor), 0.0, "%s at rest" % monitor)
	proxy.cut_line()
	_store.save(session.player_id, "progress", {"wins": 1})
	_store.save(session.player_id, "settings", {"volume": 1})
	await frames(3)
	check_eq(Performance.get_custom_monitor(MONITORS[0]), 2.0, "documents in the backlog")
	check(Performance.get_custom_monitor(MONITORS[1]) > 0.0, "the oldest has no age")
	proxy.connect_line()
	await until(
		func() -> bool: return _store.get_unsaved_count() == 0, SAVE_TIMEOUT, "nothing dirty"
	)
	check_eq(Performance.get_custom_monitor(MONITORS[0]), 0.0, "documents afterwards")
	check_eq(Performance.get_custom_monitor(MONITORS[1]), 0.0, "age afterwards")
	check(Performance.get_custom_monitor(MONITORS[2]) > 0.0, "no latency")
	var second := new_store(null)
	await frames(3)
	_store.free()
	check(Performance.has_custom_monitor(MONITORS[0]), "gone with the first of two stores")
	second.free()
	check(not Performance.has_custom_monitor(MONITORS[0]), "there after the last store")


func open_store(config: BackendConfig = null) -> void:
	_registration = await new_server("Journal", config)
	_store = new_store(config)


func new_store(config: BackendConfig) -> BackendPlayerStore:
	var store := BackendPlayerStore.new()
	store.config = config
	store.registration = _registration
	add_child(store)
	return store


func load_new_player() -> BackendSession:
	var session := await new_player("Ada")
	succeeded(await _store.load_player(session.player_id).wait(), "load")
	return session


func _remove_folder() -> void:
	if FileAccess.file_exists(FOLDER):
		DirAccess.remove_absolute(FOLDER)
	if not DirAccess.dir_exists_absolute(FOLDER):
		return
	for file in DirAccess.get_files_at(FOLDER):
		DirAccess.remove_absolute(FOLDER.path_join(file))
	DirAccess.remove_absolute(FOLDER)
