## Two servers and one player: handing over, and what becomes of a save that came too late.
extends "res://backend_suite.gd"

const HANDOVER_TIMEOUT := 40.0
const NEVER := 3600.0


class Server:
	extends RefCounted

	var registration: BackendServerRegistration
	var store: BackendPlayerStore

	## Hears from the backend now rather than at the next heartbeat.
	func listen() -> void:
		registration.players += 1


func test_a_late_save_is_kept_and_both_servers_are_told() -> void:
	var session := await new_player("Ada")
	var late := await new_holder(session)
	var lost := record(late.store.lease_lost)
	var conflicts := record(late.store.conflicted)
	var refusals := record(late.store.save_failed)
	var holder := await new_holder_behind_the_back_of(late, session)
	var found := record(holder.store.conflict_found)
	await save_and_flush(holder, session, {"wins": 2})

	late.store.save(session.player_id, "progress", {"wins": 1})
	var flushed: BackendFlushResult = await late.store.flush().wait()
	if succeeded(flushed, "flush of the late server"):
		check_eq(flushed.saved, 0, "saved")
		check_eq(flushed.unsaved, 0, "unsaved")
		check_eq(flushed.conflicted, 1, "conflicted")
	await until(func() -> bool: return not conflicts.is_empty(), WAIT_TIMEOUT, "conflicted")
	check_eq(lost, [[session.player_id]], "emissions of lease_lost")
	check_eq(conflicts, [[session.player_id, "progress"]], "emissions of conflicted")
	check_eq(late.store.is_holding(session.player_id), false, "held by the late server")
	late.store.save(session.player_id, "progress", {"wins": 3})
	await until(func() -> bool: return not refusals.is_empty(), WAIT_TIMEOUT, "save_failed")
	if not refusals.is_empty():
		check_eq((refusals[0][2] as BackendError).code, "lease_lost", "code")

	holder.listen()
	await until(func() -> bool: return not found.is_empty(), HANDOVER_TIMEOUT, "conflict_found")
	if not found.is_empty():
		var conflict: BackendSaveConflict = found[0][0]
		check_eq(conflict.player_id, session.player_id, "player")
		check_eq(conflict.key, "progress", "key")
		check_eq(conflict.server_id, late.registration.server_id, "server")
		check_eq(conflict.get_value(), {"wins": 1}, "value")
		check(not conflict.conflict_id.is_empty(), "no id")
		check(conflict.received_at.ends_with("Z"), "received at %s" % conflict.received_at)
	check_eq(await document_of(session), {"wins": 2}, "document")
	# Nobody was told to resolve it.
	check_eq(await conflicts_of(holder, session), 1, "conflicts")


func test_ours_drops_what_came_too_late() -> void:
	await expect_resolution(BackendPlayerStore.KEEP_HELD, {"wins": 2, "map": "pond"})


func test_theirs_replaces_what_we_have() -> void:
	await expect_resolution(BackendPlayerStore.KEEP_LATE, {"wins": 1, "rank": "b"})


func test_a_merge_patch_keeps_what_only_we_have() -> void:
	await expect_resolution(BackendPlayerStore.MERGE_PATCH, {"wins": 1, "rank": "b", "map": "pond"})


func test_the_hook_of_the_game_wins() -> void:
	var session := await new_player("Ada")
	var holder := await conflict_for(session, {"wins": 2}, {"wins": 1})
	var calls: Array[Array] = []
	holder.store.conflict_resolution = BackendPlayerStore.KEEP_LATE
	holder.store.merge_hook = func(
		player_id: String, key: String, held_value: Dictionary, late_value: Dictionary
	) -> Dictionary:
		calls.append([player_id, key, held_value.duplicate(), late_value.duplicate()])
		return {"wins": held_value["wins"] + late_value["wins"]}
	holder.listen()
	await until_resolved(holder, session)
	check_eq(
		calls, [[session.player_id, "progress", {"wins": 2}, {"wins": 1}]], "calls of the hook"
	)
	check_eq(await document_of(session), {"wins": 3}, "document")


func test_two_late_saves_are_merged_one_after_the_other() -> void:
	var session := await new_player("Ada")
	var first := await new_holder(session)
	var second := await new_holder_behind_the_back_of(first, session)
	var holder := await new_holder_behind_the_back_of(second, session)
	await save_and_flush(holder, session, {"found": ["key"]})
	await save_and_flush(first, session, {"found": ["lamp"]})
	await save_and_flush(second, session, {"found": ["rope"]})
	holder.store.merge_hook = func(
		_player_id: String, _key: String, held_value: Dictionary, late_value: Dictionary
	) -> Dictionary:
		return {"found": held_value["found"] + late_value["found"]}
	holder.listen()
	await until_resolved(holder, session)
	var merged := await document_of(session)
	check_eq(merged.get("found"), ["key", "lamp", "rope"], "document")


func test_a_hook_that_gives_nothing_leaves_the_conflict() -> void:
	expect_error("merge_hook: must return a Dictionary")
	var session := await new_player("Ada")
	var holder := await conflict_for(session, {"wins": 2}, {"wins": 1})
	var calls: Array[String] = []
	holder.store.merge_hook = func(
		player_id: String, _key: String, _held: Dictionary, _late: Dictionary
	) -> Variant:
		calls.append(player_id)
		return null
	holder.listen()
	await until(func() -> bool: return not calls.is_empty(), HANDOVER_TIMEOUT, "the hook's call")
	check_eq(await conflicts_of(holder, session), 1, "conflicts")
	check_eq(await document_of(session), {"wins": 2}, "document")


func test_the_game_decides_by_itself() -> void:
	var session := await new_player("Ada")
	var holder := await conflict_for(session, {"wins": 2}, {"wins": 1})
	var list: BackendConflictList = await holder.store.list_conflicts(session.player_id).wait()
	if not succeeded(list, "list") or not check_eq(list.size(), 1, "conflicts"):
		return
	check_eq(list.get_conflict(1), null, "conflict past the end")
	var conflict := list.get_conflict(0)
	failed_with(
		await holder.store.resolve_conflict(conflict, BackendPlayerStore.MANUAL).wait(),
		"invalid_field",
		"resolve by nothing",
		"resolution"
	)
	failed_with(
		await holder.store.resolve_conflict(null, BackendPlayerStore.KEEP_HELD).wait(),
		"invalid_field",
		"resolve nothing",
		"conflict"
	)
	failed_with(
		await holder.store.resolve_conflict_with(conflict, {"score": NAN}).wait(),
		"invalid_field",
		"resolve by what JSON cannot hold",
		"value.score"
	)
	check_eq(await conflicts_of(holder, session), 1, "conflicts after what was refused")
	succeeded(await holder.store.resolve_conflict_with(conflict, {"wins": 12}).wait(), "resolve")
	check_eq(await conflicts_of(holder, session), 0, "conflicts afterwards")
	check_eq(await document_of(session), {"wins": 12}, "document")


func test_a_conflict_is_found_by_the_next_load() -> void:
	var session := await new_player("Ada")
	var late := await new_holder(session)
	await release_behind_the_back_of(late)
	var between := await new_holder(session)
	await save_and_flush(between, session, {"wins": 2})
	await save_and_flush(late, session, {"wins": 1})
	succeeded(await between.store.release_player(session.player_id).wait(), "release")
	var holder := await new_registered()
	holder.store.conflict_resolution = BackendPlayerStore.MERGE_PATCH
	succeeded(await holder.store.load_player(session.player_id).wait(), "load")
	await until_resolved(holder, session)
	check_eq(await document_of(session), {"wins": 1}, "document")


func test_a_player_is_handed_over_with_the_final_state() -> void:
	timeout_seconds = 90.0
	var session := await new_player("Ada")
	var first := await new_holder(session)
	first.store.debounce_seconds = NEVER
	first.store.max_delay_seconds = NEVER
	first.store.save(session.player_id, "progress", {"wins": 1})
	var wanted := record(first.store.handover_requested)
	first.store.handover_requested.connect(
		func(player_id: String) -> void: first.store.save(player_id, "place", {"x": 3.5})
	)
	var second := await new_registered()
	var loading := second.store.load_player(session.player_id)
	await frames(30)
	check_eq(loading.is_done(), false, "loaded while another server holds the player")
	first.listen()
	var loaded: BackendPlayerDocuments = await loading.wait()
	if succeeded(loaded, "load by the second server"):
		check_eq(loaded.get_document("progress"), {"wins": 1}, "what was dirty")
		check_eq(loaded.get_document("place"), {"x": 3.5}, "what was saved at last")
	check_eq(wanted, [[session.player_id]], "emissions of handover_requested")
	check_eq(first.store.is_holding(session.player_id), false, "held by the first")
	check_eq(second.store.is_holding(session.player_id), true, "held by the second")
	var refusals := record(first.store.save_failed)
	first.store.save(session.player_id, "progress", {"wins": 9})
	await until(func() -> bool: return not refusals.is_empty(), WAIT_TIMEOUT, "save_failed")
	if not refusals.is_empty():
		check_eq((refusals[0][2] as BackendError).code, "not_loaded", "code")
	check_eq(await conflicts_of(second, session), 0, "conflicts")


func test_a_load_gives_up_when_the_other_server_does_not_let_go() -> void:
	var proxy := new_proxy()
	var session := await new_player("Ada")
	await new_holder(session, config_for(proxy.url()))
	proxy.cut_line()
	var second := await new_registered()
	second.store.handover_timeout = 0.5
	var loaded: BackendPlayerDocuments = await second.store.load_player(session.player_id).wait()
	if failed_with(loaded, "player_held", "load by the second server"):
		check_eq(loaded.error.retryable, true, "retryable")
	check_eq(second.store.is_holding(session.player_id), false, "held by the second")
	proxy.connect_line()


## `conflict_resolution` makes `expected` of {"wins": 2, "map": "pond"} here and
## {"wins": 1, "rank": "b"} there.
func expect_resolution(resolution: int, expected: Dictionary) -> void:
	var session := await new_player("Ada")
	var holder := await conflict_for(session, {"wins": 2, "map": "pond"}, {"wins": 1, "rank": "b"})
	holder.store.conflict_resolution = resolution
	holder.listen()
	await until_resolved(holder, session)
	check_eq(await document_of(session), expected, "document")
	check_eq(holder.store.get_document(session.player_id, "progress"), expected, "own copy")


## The holder of a player for whom another server has saved `late_value` too late.
func conflict_for(
	session: BackendSession, held_value: Dictionary, late_value: Dictionary
) -> Server:
	var late := await new_holder(session)
	var holder := await new_holder_behind_the_back_of(late, session)
	await save_and_flush(holder, session, held_value)
	await save_and_flush(late, session, late_value)
	return holder


func new_registered(config: BackendConfig = null) -> Server:
	var server := Server.new()
	server.registration = await new_server("Holder", config)
	server.store = BackendPlayerStore.new()
	server.store.config = config
	server.store.registration = server.registration
	add_child(server.store)
	return server


func new_holder(session: BackendSession, config: BackendConfig = null) -> Server:
	var server := await new_registered(config)
	succeeded(await server.store.load_player(session.player_id).wait(), "load")
	return server


func new_holder_behind_the_back_of(before: Server, session: BackendSession) -> Server:
	await release_behind_the_back_of(before)
	return await new_holder(session)


## Lets all players of `server` go without its knowing: what a lease that runs out does, at once.
func release_behind_the_back_of(server: Server) -> void:
	var key := FileAccess.get_file_as_string(OS.get_environment("BACKEND_SERVER_KEY_FILE"))
	var headers: PackedStringArray = [
		"Authorization: Bearer " + key.strip_edges(),
		"Content-Type: application/json",
		"Idempotency-Key: " + unique("release"),
	]
	var body := JSON.stringify({"server_id": server.registration.server_id})
	var http := HTTPRequest.new()
	add_child(http)
	var url := backend_url() + "/v1/players/release"
	check_eq(http.request(url, headers, HTTPClient.METHOD_POST, body), OK, "request")
	var reply: Array = await http.request_completed
	check_eq(reply[1], 200, "status of the release")
	http.queue_free()


func save_and_flush(server: Server, session: BackendSession, value: Dictionary) -> void:
	server.store.save(session.player_id, "progress", value)
	var flushed: BackendFlushResult = await server.store.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.unsaved, 0, "unsaved")


func until_resolved(server: Server, session: BackendSession) -> void:
	var deadline := Time.get_ticks_msec() + int(HANDOVER_TIMEOUT * 1000.0)
	while await conflicts_of(server, session) > 0:
		if Time.get_ticks_msec() > deadline:
			return fail("the conflict is not resolved")
		await get_tree().process_frame


func conflicts_of(server: Server, session: BackendSession) -> int:
	var list: BackendConflictList = await server.store.list_conflicts(session.player_id).wait()
	return list.size() if succeeded(list, "list") else -1


func document_of(session: BackendSession) -> Dictionary:
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	return documents.get_document("progress") if succeeded(documents, "read back") else {}
