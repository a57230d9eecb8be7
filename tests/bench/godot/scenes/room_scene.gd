extends "res://scenes/scene.gd"
## A guest who looks at lists of rooms, of which there is one for each size that is measured.

var size := int(argument("size"))
var session: BackendSession
var rooms: BackendRooms


func log_in() -> void:
	session = BackendSession.new()
	add_child(session)
	rooms = BackendRooms.new()
	rooms.session = session
	add_child(rooms)
	var login: BackendLoginResult = await session.login_anonymous("Ada").wait()
	check(login.ok(), "login")


## For all rooms of the list that has `size` of them: its map is named after it.
func query_of_list() -> BackendRoomQuery:
	var query := BackendRoomQuery.new()
	query.map = str(size)
	return query


func check_size(page: BackendRoomPage) -> void:
	check(page.ok() and page.size() == size, "a list of %d rooms" % size)


## What the longest frame until `is_over` returns true takes beyond an idle one, which takes `idle`.
func longest_frame_beyond(idle: float, is_over: Callable) -> float:
	return maxf(await longest_frame(is_over) - idle, 0.0)
