extends "res://scenes/room_scene.gd"
## A long list that is followed: while it loads, and while its rooms change.

var _added := 0
var _changes := 0


func _ready() -> void:
	Engine.max_fps = 60
	await log_in()
	await settle()
	var idle := await idle_frame_cost()
	var follow := rooms.follow()
	follow.room_changed.connect(func(_room: BackendRoom) -> void: _changes += 1)
	follow.room_added.connect(func(_room: BackendRoom) -> void: _added += 1)
	var loading := await longest_frame_beyond(
		idle, func() -> bool: return follow.state == BackendRoomFollow.STATE_LIVE and _added >= size
	)
	var until := Time.get_ticks_msec() + int(argument("seconds")) * 1000
	_changes = 0
	var followed := await longest_frame_beyond(
		idle, func() -> bool: return Time.get_ticks_msec() >= until
	)
	check(_changes > 0, "changes")
	check_size(follow.get_rooms())
	conclude(
		{
			"longest_frame_loading_us": loading,
			"longest_frame_followed_us": followed,
			"changes_per_second": _changes / float(argument("seconds")),
		}
	)
