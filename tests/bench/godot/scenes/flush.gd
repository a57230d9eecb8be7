extends "res://scenes/players.gd"
## A document of every player at once: by the addon, or by one HTTPRequest each from a pool.

const POOL := 16


func _ready() -> void:
	# What cannot draw sleeps 6.9 ms in each frame otherwise, also without a limit of frames.
	OS.low_processor_usage_mode_sleep_usec = 0
	await get_tree().process_frame
	var figures: Dictionary = await call("_" + argument("way"))
	conclude(figures)


func _addon() -> Dictionary:
	var players := FileAccess.get_file_as_string(argument("players")).split("\n")
	var registration := await listed_server()
	var store := store_of(registration)
	await load_all(store, players)
	var figures := {}
	# As in a game, the same documents change: made anew each time, what freeing the old ones left to
	# the allocator would be counted as capture.
	var documents := nested_documents(players.size(), 0)
	# The first opens the journal's file and warms caches. The last two wait for all to be captured
	# before anything is sent, so that one can be told from the other.
	for run: Array in [
		[1, 0, "first", 0.0],
		[2, 60, "60hz", 0.0],
		[3, 0, "uncapped", 0.0],
		[4, 60, "apart_60hz", 3_600.0],
		[5, 0, "apart_uncapped", 3_600.0],
	]:
		Engine.max_fps = run[1]
		store.debounce_seconds = run[3]
		store.max_delay_seconds = run[3]
		for index in players.size():
			documents[index]["number"] = run[0] * players.size() + index
		await settle()
		var begun := Time.get_ticks_usec()
		var worked := processor_usec()
		for index in players.size():
			if store.save(players[index], "progress", documents[index]) == 0:
				failed += 1
		var captured := Time.get_ticks_usec()
		worked = processor_usec() - worked
		var flushed: BackendFlushResult = await store.flush().wait()
		var ended := Time.get_ticks_usec()
		check(flushed.ok() and flushed.unsaved == 0, "flush")
		check(store.get_unsaved_count() == 0, "dirty")
		figures["whole_%s_ms" % run[2]] = (ended - begun) / 1e3
		if run[2] == "apart_uncapped":
			figures["capture_wall_us"] = float(captured - begun) / players.size()
			# Counted by the system's tick: of fewer it says nothing.
			if players.size() >= 1_000:
				figures["capture_us"] = worked / players.size()
			figures["sending_ms"] = (ended - captured) / 1e3
	Engine.max_fps = 0
	var releases: Array = Array(players).map(store.release_player)
	for release: BackendRequest in releases:
		await release.wait()
	await registration.deregister().wait()
	return figures


func _pool() -> Dictionary:
	var held: Dictionary = JSON.parse_string(FileAccess.get_file_as_string(argument("held")))
	var size := int(argument("size"))
	var figures := {}
	var idle: Array[HTTPRequest] = []
	for _node in POOL:
		var request := HTTPRequest.new()
		add_child(request)
		idle.append(request)
	for run: Array in [[1, 60, "60hz", "at-60"], [2, 0, "uncapped", "uncapped"]]:
		Engine.max_fps = run[1]
		var count := int(argument(run[3]))
		var documents := nested_documents(count, run[0] * count)
		await settle()
		var begun := Time.get_ticks_usec()
		var waiting := {"next": 0, "done": 0}
		for request in idle:
			_post_all(request, held, documents, waiting, run[0])
		while waiting["done"] < count:
			await get_tree().process_frame
		figures["whole_%s_ms" % run[2]] = (Time.get_ticks_usec() - begun) / 1e3 * size / count
	return figures


## One node of the pool, until nothing is left.
func _post_all(
	request: HTTPRequest, held: Dictionary, documents: Array, waiting: Dictionary, sequence: int
) -> void:
	var headers := ["Content-Type: application/json", "Authorization: Bearer " + held["key"]]
	while waiting["next"] < documents.size():
		var index: int = waiting["next"]
		waiting["next"] += 1
		var player: Array = held["players"][index]
		var item := {
			"player_id": player[0],
			"key": "progress",
			"epoch": int(player[1]),
			"sequence": int(player[2]) + sequence,
			"value": documents[index],
		}
		var body := JSON.stringify({"server_id": held["server_id"], "items": [item]})
		var url := argument("url") + "/v1/players/save"
		request.request(url, headers, HTTPClient.METHOD_POST, body)
		var reply: Array = await request.request_completed
		var saved: Variant = JSON.parse_string((reply[3] as PackedByteArray).get_string_from_utf8())
		check(reply[1] == 200 and saved["results"][0]["outcome"] == "applied", "save")
		waiting["done"] += 1
