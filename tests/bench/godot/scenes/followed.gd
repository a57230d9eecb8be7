extends "res://scenes/scene.gd"
## A long list that is followed: while it loads, and while its rooms change.

var _changes := 0


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
	await settle()
	var idle := await idle_frame_cost()
	var follow := rooms.follow()
	follow.room_changed.connect(func(_room: BackendRoom) -> void: _changes += 1)
	var size := int(argument("size"))
	var added := [0]
	follow.room_added.connect(func(_room: BackendRoom) -> void: added[0] += 1)
	var loading := await longest_frame(
		func() -> bool: return follow.state == BackendRoomFollow.STATE_LIVE and added[0] >= size
	)
	var until := Time.get_ticks_msec() + int(argument("seconds")) * 1000
	_changes = 0
	var followed := await longest_frame(func() -> bool: return Time.get_ticks_msec() >= until)
	if _changes == 0 or follow.get_rooms().size() != size:
		failed += 1
	var figures := {
		"longest_frame_loading_us": maxf(loading - idle, 0.0),
		"longest_frame_followed_us": maxf(followed - idle, 0.0),
		"changes_per_second": _changes / float(argument("seconds")),
	}
	conclude(figures, failed)
