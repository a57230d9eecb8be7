## Worlds: chunks that survive what the network, the disk and other servers do.
extends "res://backend_suite.gd"

const SAVE_TIMEOUT := 30.0
const FOLDER := "user://world_suite"

var _world_id := ""
var _registration: BackendServerRegistration
var _world: BackendWorldStore


func test_a_chunk_comes_back_as_it_was_saved() -> void:
	await open_world()
	var bytes := noise(300_000)
	var local := record(_world.saved_locally)
	var remote := record(_world.saved)
	check_eq(_world.chunk_names(), PackedStringArray(), "chunks of a new world")
	succeeded(await _world.save_chunk("terrain/0,0", bytes).wait(), "save_chunk")
	check_eq(local, [["terrain/0,0"]], "emissions of saved_locally")
	check_eq(_world.get_unjournalled_count(), 0, "unjournalled")
	_world.save_chunk("empty", PackedByteArray())
	var flushed: BackendFlushResult = await _world.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.saved, 2, "saved")
		check_eq(flushed.unsaved, 0, "unsaved")
	check_eq(_world.get_unsaved_count(), 0, "dirty")
	check_eq(remote.size(), 2, "emissions of saved")
	check_eq(_world.chunk_names(), PackedStringArray(["empty", "terrain/0,0"]), "chunks")
	check(_world.has_chunk("empty"), "no chunk 'empty'")
	var chunk: BackendWorldChunk = await _world.load_chunk("terrain/0,0").wait()
	if succeeded(chunk, "load_chunk"):
		check_eq(chunk.chunk_name, "terrain/0,0", "name")
		check(chunk.data == bytes, "other bytes came back")
		check(chunk.version > 0, "version %d" % chunk.version)
	await check_chunk("empty", PackedByteArray())


func test_the_next_server_finds_the_world() -> void:
	await open_world()
	var bytes := noise(50_000)
	_world.save_chunk("a", bytes)
	_world.save_chunk("b", bytes)
	await _world.delete_chunk("b").wait()
	check(not _world.has_chunk("b"), "a deleted chunk is there")
	var closed: BackendFlushResult = await _world.close().wait()
	if succeeded(closed, "close"):
		check_eq(closed.unsaved, 0, "unsaved")
	check(not _world.is_open(), "open after close")
	check_eq(_world.chunk_names(), PackedStringArray(), "chunks of no world")
	failed_with(await _world.load_chunk("a").wait(), "not_configured", "load after close")

	# Another machine: nothing is on its disk.
	use_folder("second")
	await open_world()
	check_eq(_world.chunk_names(), PackedStringArray(["a"]), "chunks")
	await check_chunk("a", bytes)


func test_the_environment_says_where_the_copy_is() -> void:
	use_folder("environment")
	await open_world()
	await _world.save_chunk("a", noise(1_000)).wait()
	var index := FOLDER.path_join("environment/%s/index.db" % _world_id)
	check(FileAccess.file_exists(index), "no %s" % index)


func test_a_folder_inside_the_game_is_refused() -> void:
	ProjectSettings.set_setting("backend_client/worlds/folder", "res://worlds")
	_registration = await new_server("World")
	_world = new_world(_registration)
	failed_with(await _world.open("overworld").wait(), "invalid_field", "open", "worlds_folder")
	check("\n".join(_world._get_configuration_warnings()).contains("res://"), "no warning")
	ProjectSettings.set_setting("backend_client/worlds/folder", "")


func test_what_is_missing_or_wrong_is_told() -> void:
	_world = new_world(null)
	check(not _world._get_configuration_warnings().is_empty(), "no configuration warning")
	failed_with(await _world.open("overworld").wait(), "not_configured", "open unregistered")
	await open_world()
	failed_with(await _world.open("another").wait(), "not_configured", "a second world")
	check_eq(_world.get_world_id(), _world_id, "world")
	var failures_told := record(_world.save_failed)
	failed_with(
		await _world.save_chunk("../a", PackedByteArray()).wait(), "invalid_field", "save", "name"
	)
	check_eq(failures_told.size(), 1, "emissions of save_failed")
	failed_with(await _world.load_chunk("a").wait(), "chunk_not_found", "load")
	_world.close()
	failed_with(await _world.save_chunk("a", PackedByteArray()).wait(), "cancelled", "save late")
	var unfit := new_world(_registration)
	failed_with(await unfit.open("no/world").wait(), "invalid_field", "open", "world_id")


func test_a_chunk_is_safe_before_the_backend_has_it() -> void:
	timeout_seconds = 120.0
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 1.0
	await open_world(config)
	_world.flush_timeout = 1.0
	var local := record(_world.saved_locally)
	var remote := record(_world.saved)
	proxy.cut_line()
	var bytes := noise(20_000)
	_world.save_chunk("a", bytes)
	var flushed: BackendFlushResult = await _world.flush_local().wait()
	if succeeded(flushed, "flush_local"):
		check_eq(flushed.unsaved, 1, "unsaved")
		check_eq(flushed.journalled, 1, "journalled")
	check_eq(local, [["a"]], "emissions of saved_locally")
	flushed = await _world.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.saved, 0, "saved")
		check_eq(flushed.journalled, 1, "journalled")
	check_eq(remote.size(), 0, "emissions of saved")
	await check_chunk("a", bytes)
	proxy.connect_line()
	await until(func() -> bool: return not remote.is_empty(), 60.0, "saved")
	check_eq(_world.get_unsaved_count(), 0, "dirty")


func test_what_waits_is_sent_by_the_next_store() -> void:
	timeout_seconds = 120.0
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 1.0
	await open_world(config)
	proxy.cut_line()
	var bytes := noise(20_000)
	_world.save_chunk("a", bytes)
	_world.flush_timeout = 0.5
	var closed: BackendFlushResult = await _world.close().wait()
	if succeeded(closed, "close"):
		check_eq(closed.unsaved, 1, "unsaved")
		check_eq(closed.journalled, 1, "journalled")
	proxy.connect_line()
	_world.flush_timeout = 30.0
	succeeded(await _world.open(_world_id).wait(), "open again")
	check_eq(_world.chunk_names(), PackedStringArray(["a"]), "chunks")
	await check_chunk("a", bytes)
	check_eq(_world.get_unsaved_count(), 0, "dirty")


func test_a_world_has_one_server_at_a_time() -> void:
	await open_world()
	_world.save_chunk("a", PackedByteArray([1]))
	use_folder("rival")
	var rival := new_world(await new_server("Rival"))
	rival.open_timeout = 0.5
	failed_with(await rival.open(_world_id).wait(), "world_held", "open by the rival")
	rival.open_timeout = 30.0
	var opening := rival.open(_world_id)
	succeeded(await _world.close().wait(), "close")
	succeeded(await opening.wait(), "open once it is free")
	var chunk: BackendWorldChunk = await rival.load_chunk("a").wait()
	if succeeded(chunk, "load by the rival"):
		check_eq(chunk.data, PackedByteArray([1]), "data")


func test_a_damaged_copy_is_noticed_and_fetched_again() -> void:
	use_folder("damaged")
	await open_world()
	var bytes := noise(100_000)
	_world.save_chunk("a", bytes)
	succeeded(await _world.flush().wait(), "flush")
	var object := object_files("damaged")[0]
	var stored := FileAccess.get_file_as_bytes(object)
	stored[stored.size() >> 1] ^= 1
	FileAccess.open(object, FileAccess.WRITE).store_buffer(stored)
	await check_chunk("a", bytes)
	check(FileAccess.get_file_as_bytes(object) != stored, "the damaged copy is still there")


func test_a_damaged_copy_is_not_sent() -> void:
	timeout_seconds = 120.0
	use_folder("unsent")
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 1.0
	await open_world(config, "unsent")
	proxy.cut_line()
	succeeded(await _world.save_chunk("a", noise(10_000)).wait(), "save")
	var object := object_files("unsent")[0]
	FileAccess.open(object, FileAccess.WRITE).store_string("not a chunk")
	var failures_told := record(_world.save_failed)
	proxy.connect_line()
	await until(func() -> bool: return not failures_told.is_empty(), SAVE_TIMEOUT, "save_failed")
	if not failures_told.is_empty():
		check_eq(failures_told[0][0], "a", "chunk")
		check_eq((failures_told[0][1] as BackendError).code, "storage", "code")
	check(not _world.has_chunk("a"), "a chunk that is lost is listed")
	var bytes := noise(10_000)
	_world.save_chunk("a", bytes)
	var flushed: BackendFlushResult = await _world.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.unsaved, 0, "unsaved")
	await check_chunk("a", bytes)


func test_a_damaged_index_is_put_aside() -> void:
	timeout_seconds = 120.0
	tolerate_errors("index is damaged")
	use_folder("index")
	await open_world()
	_world.save_chunk("a", PackedByteArray([1]))
	succeeded(await _world.close().wait(), "close")
	var folder := FOLDER.path_join("index")
	FileAccess.open(folder.path_join(_world_id + "/index.db"), FileAccess.WRITE).store_buffer(
		noise(8_192)
	)
	var aside := record(_world.put_aside)
	succeeded(await _world.open(_world_id).wait(), "open")
	if check_eq(aside.size(), 1, "emissions of put_aside"):
		var kept: String = aside[0][0]
		check(FileAccess.file_exists(kept.path_join("index.db")), "no index in %s" % kept)
		check_eq(aside[0][1], PackedStringArray(), "names")
	await check_chunk("a", PackedByteArray([1]))


func test_a_node_that_is_freed_lets_the_world_go() -> void:
	await open_world()
	_world.save_chunk("a", PackedByteArray([1]))
	var world_id := _world_id
	_world.free()
	use_folder("after")
	_world = new_world(await new_server("Heir"))
	succeeded(await _world.open(world_id).wait(), "open by the heir")
	await check_chunk("a", PackedByteArray([1]))


func test_a_node_outside_the_tree_keeps_its_world() -> void:
	await open_world()
	remove_child(_world)
	await frames(5)
	add_child(_world)
	check(_world.is_open(), "closed")
	_world.save_chunk("a", PackedByteArray([1]))
	var flushed: BackendFlushResult = await _world.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.unsaved, 0, "unsaved")


func test_the_game_is_asked_for_what_has_changed() -> void:
	await open_world()
	_world.autosave_interval = 0.1
	var asked := record(_world.collect_saves)
	await until(func() -> bool: return asked.size() >= 2, WAIT_TIMEOUT, "collect_saves")


func test_many_chunks_are_saved_without_filling_the_memory() -> void:
	timeout_seconds = 120.0
	await open_world()
	_world.flush_timeout = 100.0
	var refused := record(_world.save_failed)
	for index in 400:
		var saving := _world.save_chunk("terrain/%d" % index, noise(4_096))
		if _world.get_unjournalled_count() >= 64:
			await saving.wait()
	check_eq(refused.size(), 0, "emissions of save_failed")
	var flushed: BackendFlushResult = await _world.flush().wait()
	if succeeded(flushed, "flush"):
		check_eq(flushed.unsaved, 0, "unsaved")
	check_eq(_world.chunk_names().size(), 400, "chunks")


func test_more_than_the_memory_may_hold_is_refused() -> void:
	await open_world()
	var refused := record(_world.save_failed)
	var large := PackedByteArray()
	large.resize(16 * 1024 * 1024)
	# More than the disk takes meanwhile, on a machine however busy.
	for index in 64:
		_world.save_chunk("large/%d" % index, large)
	var larger := large.duplicate()
	larger.append(1)
	failed_with(await _world.save_chunk("larger", larger).wait(), "invalid_field", "save", "data")
	var codes := refused.map(
		func(arguments: Array) -> String: return (arguments[1] as BackendError).code
	)
	check(codes.has("backlog_full"), "no backlog_full among %s" % [codes])
	if not refused.is_empty():
		check((refused[0][1] as BackendError).retryable, "backlog_full is not retryable")


func open_world(config: BackendConfig = null, folder: String = "") -> void:
	if _world_id.is_empty():
		_world_id = unique("world")
	_registration = await new_server("World", config)
	_world = new_world(_registration, config)
	if config != null and not folder.is_empty():
		ProjectSettings.set_setting("backend_client/worlds/folder", FOLDER.path_join(folder))
	succeeded(await _world.open(_world_id).wait(), "open")
	ProjectSettings.set_setting("backend_client/worlds/folder", "")
	check_eq(_world.is_open(), true, "is_open")


func new_world(
	registration: BackendServerRegistration, config: BackendConfig = null
) -> BackendWorldStore:
	var world := BackendWorldStore.new()
	world.config = config
	world.registration = registration
	world.send_delay = 0.05
	add_child(world)
	return world


func check_chunk(chunk_name: String, bytes: PackedByteArray) -> void:
	var chunk: BackendWorldChunk = await _world.load_chunk(chunk_name).wait()
	if succeeded(chunk, "load_chunk %s" % chunk_name):
		check(chunk.data == bytes, "%s: other bytes came back" % chunk_name)


## The folder of the worlds opened from now on, by this test.
func use_folder(folder: String) -> void:
	OS.set_environment("BACKEND_WORLDS_FOLDER", FOLDER.path_join(folder))


func object_files(folder: String) -> PackedStringArray:
	var files := PackedStringArray()
	var objects := FOLDER.path_join(folder).path_join(_world_id).path_join("objects")
	for prefix in DirAccess.get_directories_at(objects):
		for file in DirAccess.get_files_at(objects.path_join(prefix)):
			files.append(objects.path_join(prefix).path_join(file))
	return files


static func noise(length: int) -> PackedByteArray:
	return Crypto.new().generate_random_bytes(length)


func _exit_tree() -> void:
	OS.unset_environment("BACKEND_WORLDS_FOLDER")
