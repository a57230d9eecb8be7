class_name BackendFollowedList
extends RefCounted
## The list of rooms while it is followed. Changes that come within a second are shown together.

const _CHANGE_DELAY := 1.0

var _follow: BackendRoomFollow
# Seconds until changes are shown; negative if there are none.
var _changes_in := -1.0


## Follows the list of [param rooms], if it is not followed yet.
func start(rooms: BackendRooms) -> void:
	if _follow != null:
		return
	_follow = rooms.follow()
	_follow.list_changed.connect(_on_changed)
	_follow.state_changed.connect(_on_state)


## Ends it. Changes that were not taken are dropped.
func stop() -> void:
	if _follow != null:
		_follow.stop()
	_follow = null
	_changes_in = -1.0


## Whether the backend reports changes.
func is_live() -> bool:
	return (
		_follow != null
		and _follow.state in [BackendRoomFollow.STATE_LIVE, BackendRoomFollow.STATE_POLLING]
	)


## Counts down to the next time that changes are shown.
func advance(delta: float) -> void:
	if _changes_in > 0.0:
		_changes_in = maxf(_changes_in - delta, 0.0)


## Whether there are changes to show now.
func has_changes() -> bool:
	return _changes_in == 0.0 and is_live()


## The list with its changes.
func take() -> BackendRoomPage:
	_changes_in = -1.0
	return _follow.get_rooms()


func _on_changed() -> void:
	if _changes_in < 0.0:
		_changes_in = _CHANGE_DELAY


func _on_state(followed: int) -> void:
	if followed in [BackendRoomFollow.STATE_FAILED, BackendRoomFollow.STATE_STOPPED]:
		_follow = null
