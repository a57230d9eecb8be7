extends "res://scenes/room_scene.gd"
## All servers of a page, pinged at once.


func _ready() -> void:
	Engine.max_fps = 60
	await log_in()
	var query := query_of_list()
	query.mode = "answering"
	var page: BackendRoomPage = await rooms.list_all_rooms(query).wait()
	check_size(page)
	await settle()
	var idle := await idle_frame_cost()
	var begun := Time.get_ticks_usec()
	var request := rooms.ping_rooms(page)
	var longest := await longest_frame_beyond(idle, request.is_done)
	var seconds := (Time.get_ticks_usec() - begun) / 1e6
	var pings: BackendRoomPings = request.result
	var unanswered := 0
	for index in pings.size():
		if pings.get_ping(index).failed():
			unanswered += 1
	conclude(
		{
			"seconds": seconds,
			"longest_frame_us": longest,
			"unanswered": unanswered,
		}
	)
