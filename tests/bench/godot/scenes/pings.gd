extends "res://scenes/scene.gd"
## All servers of a page, pinged at once.


func _ready() -> void:
	Engine.max_fps = 60
	var failed := 0
	var session := BackendSession.new()
	add_child(session)
	var rooms := BackendRooms.new()
	rooms.session = session
	add_child(rooms)
	var login: BackendLoginResult = await session.login_anonymous("Ada").wait()
	if login.failed():
		failed += 1
	var query := BackendRoomQuery.new()
	query.map = argument("size")
	query.mode = "answering"
	var page: BackendRoomPage = await rooms.list_all_rooms(query).wait()
	if page.failed() or page.size() != int(argument("size")):
		failed += 1
	await settle()
	var idle := await idle_frame_cost()
	var begun := Time.get_ticks_usec()
	var request := rooms.ping_rooms(page)
	var longest := await longest_frame(request.is_done)
	var seconds := (Time.get_ticks_usec() - begun) / 1e6
	var pings: BackendRoomPings = request.result
	var unanswered := 0
	for index in pings.size():
		if pings.get_ping(index).failed():
			unanswered += 1
	var figures := {
		"seconds": seconds,
		"longest_frame_us": maxf(longest - idle, 0.0),
		"unanswered": unanswered,
	}
	conclude(figures, failed)
