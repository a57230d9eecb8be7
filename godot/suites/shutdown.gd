## The orderly end of a server, up to but not including the exit of the process.
extends "res://backend_suite.gd"

const SHUTDOWN_TIMEOUT := 40.0

var _registration: BackendServerRegistration
var _store: BackendPlayerStore
var _shutdown: BackendShutdown
## What happened, in order.
var _story: PackedStringArray = []


func test_the_phases_come_in_order() -> void:
	await open_server()
	_store.debounce_seconds = 3600.0
	_store.max_delay_seconds = 3600.0
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	_shutdown.request_shutdown("suite")
	check_eq(_shutdown.is_shutting_down(), true, "shutting down")
	var summary := await completion()
	if summary == null:
		return
	var announced := _story.find("draining suite")
	var collected := _story.find("collect_saves")
	var completed := _story.find("completed")
	check(announced >= 0, "no draining in %s" % _story)
	check(announced < collected and collected < completed, "wrong order: %s" % _story)
	check(_story.count("collect_saves") == 1, "collect_saves more than once: %s" % _story)
	check_eq(summary.reason, "suite", "reason")
	check_eq(summary.players, 1, "players")
	check_eq(summary.saved_locally, 1, "saved locally")
	check_eq(summary.saved, 1, "saved")
	check_eq(summary.conflicted, 0, "conflicted")
	check_eq(summary.left_in_journal, 0, "left in the journal")
	check_eq(summary.unsaved, 0, "unsaved")
	check_eq(summary.deregistered, true, "deregistered")
	check_eq(summary.exit_code, 0, "exit code")
	var parts := summary.collect_ms + summary.journal_ms + summary.send_ms + summary.release_ms
	# Each is rounded down by less than a millisecond.
	check(
		parts <= summary.duration_ms and summary.duration_ms <= parts + 4,
		"%d ms in all, %d ms in parts" % [summary.duration_ms, parts]
	)


func test_what_collect_saves_hands_in_is_in_the_backend() -> void:
	await open_server()
	_store.debounce_seconds = 3600.0
	_store.max_delay_seconds = 3600.0
	var players: Array[BackendSession] = []
	for _index in 5:
		players.append(await load_new_player())
	# One document is dirty before, the others are only known to the game.
	_store.save(players[0].player_id, "settings", {"volume": 3})
	_shutdown.collect_saves.connect(
		func() -> void:
			for index in players.size():
				_store.save(players[index].player_id, "progress", {"wins": index})
	)
	_shutdown.request_shutdown("suite")
	var summary := await completion()
	if summary != null:
		check_eq(summary.saved, 6, "saved")
		check_eq(summary.unsaved, 0, "unsaved")
	for index in players.size():
		var documents: BackendPlayerDocuments = await players[index].read_documents().wait()
		check_eq(
			documents.get_document("progress"), {"wins": index}, "progress of player %d" % index
		)
	var first: BackendPlayerDocuments = await players[0].read_documents().wait()
	check_eq(first.get_document("settings"), {"volume": 3}, "settings")


func test_the_store_asks_for_saves_too() -> void:
	await open_server()
	var session := await load_new_player()
	_store.collect_saves.connect(
		func() -> void: _store.save(session.player_id, "progress", {"asked": true})
	)
	_shutdown.request_shutdown("suite")
	await completion()
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check_eq(documents.get_document("progress"), {"asked": true}, "progress")


func test_the_server_is_off_the_list_afterwards() -> void:
	await open_server()
	var server_id := _registration.server_id
	_shutdown.request_shutdown("suite")
	await completion()
	check_eq(_registration.is_registered(), false, "registered")
	var rooms := new_rooms(await new_player())
	failed_with(await rooms.get_room(server_id).wait(), "room_not_found", "get_room")


func test_nobody_gets_in_while_draining() -> void:
	await open_server()
	var auth := BackendPeerAuth.new()
	auth.registration = _registration
	add_child(auth)
	_shutdown.peer_auth = auth
	check_eq(auth.accepting, true, "accepting before")
	_shutdown.request_shutdown("suite")
	await until(func() -> bool: return not auth.accepting, WAIT_TIMEOUT, "end of accepting")
	await completion()
	check_eq(auth.accepting, false, "accepting after")


func test_asking_twice_shuts_down_once() -> void:
	await open_server()
	_shutdown.request_shutdown("first")
	_shutdown.request_shutdown("second")
	var summary := await completion()
	await frames(30)
	check_eq(summary.reason if summary != null else "", "first", "reason")
	check_eq(_story.count("completed"), 1, "emissions of completed")
	check_eq(_story.count("draining second"), 0, "emissions of draining for the second")


func test_the_phases_are_told() -> void:
	await open_server()
	var phases: PackedInt32Array = []
	_shutdown.progress.connect(func(phase: int) -> void: phases.append(phase))
	_shutdown.request_shutdown("suite")
	await completion()
	var expected: PackedInt32Array = [
		BackendShutdown.PHASE_DRAINING,
		BackendShutdown.PHASE_COLLECTING,
		BackendShutdown.PHASE_JOURNALLING,
		BackendShutdown.PHASE_SENDING,
		BackendShutdown.PHASE_RELEASING,
		BackendShutdown.PHASE_COMPLETED,
	]
	check_eq(phases, expected, "phases")


func test_a_server_with_nothing_to_save_shuts_down_too() -> void:
	_shutdown = BackendShutdown.new()
	_shutdown.quit_on_completed = false
	add_child(_shutdown)
	tell()
	_shutdown.request_shutdown("suite")
	var summary := await completion()
	if summary != null:
		check_eq(summary.saved, 0, "saved")
		check_eq(summary.unsaved, 0, "unsaved")
		check_eq(summary.deregistered, true, "not listed at the end")


func test_players_are_let_go() -> void:
	await open_server()
	var session := await load_new_player()
	_store.save(session.player_id, "progress", {"wins": 1})
	_shutdown.request_shutdown("suite")
	await completion()
	# Without a release, the next server would wait for the end of the lease.
	await open_server()
	var documents := await _loaded(session)
	check_eq(documents.get_document("progress"), {"wins": 1}, "progress on the next server")


func test_without_the_backend_it_ends_all_the_same_and_says_what_is_left() -> void:
	timeout_seconds = 120.0
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 1.0
	await open_server(config)
	_shutdown.grace_seconds = 10.0
	var session := await load_new_player()
	proxy.cut_line()
	_store.save(session.player_id, "progress", {"wins": 1})
	_shutdown.request_shutdown("suite")
	var summary := await completion()
	if summary != null:
		check_eq(summary.saved_locally, 1, "saved locally")
		check_eq(summary.saved, 0, "saved")
		check_eq(summary.left_in_journal, 1, "left in the journal")
		check_eq(summary.unsaved, 0, "unsaved")
		check_eq(summary.deregistered, false, "deregistered")
		check_eq(summary.exit_code, 75, "exit code")


func open_server(config: BackendConfig = null) -> void:
	_registration = await new_server("Ending", config)
	_store = BackendPlayerStore.new()
	_store.config = config
	_store.registration = _registration
	add_child(_store)
	_shutdown = BackendShutdown.new()
	_shutdown.quit_on_completed = false
	_shutdown.registration = _registration
	_shutdown.store = _store
	add_child(_shutdown)
	tell()


func tell() -> void:
	_shutdown.draining.connect(
		func(reason: String, deadline_seconds: float) -> void:
			_story.append("draining " + reason)
			check(deadline_seconds > 0.0, "deadline is %s" % deadline_seconds)
	)
	_shutdown.collect_saves.connect(func() -> void: _story.append("collect_saves"))
	_shutdown.completed.connect(
		func(_summary: BackendShutdownSummary) -> void: _story.append("completed")
	)


func completion() -> BackendShutdownSummary:
	return await within(SHUTDOWN_TIMEOUT, _shutdown.completed)


func load_new_player() -> BackendSession:
	var session := await new_player("Ada")
	await _loaded(session)
	return session


func _loaded(session: BackendSession) -> BackendPlayerDocuments:
	var documents: BackendPlayerDocuments = await _store.load_player(session.player_id).wait()
	succeeded(documents, "load")
	return documents
