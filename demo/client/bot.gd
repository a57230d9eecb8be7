extends Node
## Plays one race by itself, through the same methods and screens as a player, and takes screenshots
## when asked.

const GIVE_UP_SECONDS := 60.0

var _random := RandomNumberGenerator.new()
var _next_hop_in := 0.0
var _last_pads := -1
var _progress_read := false
# The server has left, as `--until-closed` expects.
var _closed := false
var _shots := Arguments.text("screenshots", "")

@onready var _client: Client = get_parent()
@onready
var _browser: BackendServerBrowser = _client.get_node("Screens/Browser/Center/ServerBrowser")


func _ready() -> void:
	_random.seed = hash(EventLog.who)
	get_tree().create_timer(GIVE_UP_SECONDS).timeout.connect(
		_fail.bind("deadline", "the bot did not finish in time")
	)
	_client.left.connect(_on_left)
	_client.progress_read.connect(func(_progress: Dictionary) -> void: _progress_read = true)
	_play()


func _play() -> void:
	await _shoot("login")
	var login: BackendLoginResult = await _log_in().wait()
	if login.failed():
		_fail(login.error.code, login.error.message)
		return
	if not await _enter_room():
		return
	for number: int in Arguments.number("races", 1):
		if number > 0:
			_progress_read = false
			_client.race.request_rematch.rpc_id(1)
		await _race(number == 0)
		if _closed:
			break
	if _closed:
		# The server has kept what was not saved yet.
		await _client.read_progress()
	else:
		_client.left.disconnect(_on_left)
		_client.leave()
	# The browser refreshes when the race is left; a coroutine cut off by quit() would be counted as
	# leaked.
	while _browser.is_busy():
		await get_tree().process_frame
	EventLog.emit("done")
	get_tree().quit(0)


## Joins as the command line says: a room of one's own, whichever has a free seat, or one by its
## name.
func _enter_room() -> bool:
	var own := Arguments.text("create-room", "")
	if not own.is_empty():
		await _shoot("server_browser")
		EventLog.emit("creates_room", {"name": own})
		await _create_room(own)
		return true
	if Arguments.has("quick-play"):
		EventLog.emit("quick_play")
		_browser.quick_play()
		return true
	var room := await _find_room()
	if room == null:
		_fail("room_not_found", "no room to join")
		return false
	await _shoot("server_browser")
	_client.join(room.room_id)
	return true


## Uses the form of the browser, as a player does.
func _create_room(room_name: String) -> void:
	_browser.create_room()
	var form: BackendRoomForm = _browser.find_child("RoomForm", true, false)
	(form.find_child("Name", true, false) as BackendFormField).text = room_name
	await _shoot("create_room")
	(form.find_child("Create", true, false) as Button).pressed.emit()
	while _browser.is_busy():
		await get_tree().process_frame
	var status: Label = form.find_child("Status", true, false)
	if form.visible:
		_fail("room_not_created", status.text)


func _race(with_pictures: bool) -> void:
	await _until_stage(Race.Stage.RUNNING)
	if with_pictures and not _shots.is_empty() and not _closed:
		while _client.race.get_own_frog().motion.pads < _client.race.length / 3:
			await get_tree().process_frame
		while _client.race.get_own_frog().motion.phase != FrogMotion.Phase.HOPPING:
			await get_tree().process_frame
		await get_tree().create_timer(0.15).timeout
		await _shoot("race")
	await _until_stage(Race.Stage.FINISHED)
	while not _progress_read and not _closed:
		await get_tree().process_frame
	if with_pictures and not _closed:
		await _shoot("results")


func _until_stage(stage: Race.Stage) -> void:
	while _client.race.stage != stage and not _closed:
		await get_tree().process_frame


func _log_in() -> BackendRequest:
	var account := Arguments.text("account", "anonymous").split(":")
	match account[0]:
		"device":
			return _client.session.login_with_device(account[1], Arguments.text("name", ""))
		"password":
			return _client.session.login_with_password(account[1], account[2])
	return _client.session.login_anonymous(Arguments.text("name", ""))


func _find_room() -> BackendRoom:
	var query := BackendRoomQuery.new()
	query.not_full = true
	var wanted := Arguments.text("room", "")
	# A server that is just starting is listed a moment later.
	for attempt: int in 40:
		var page: BackendRoomPage = await _client.rooms.list_rooms(query).wait()
		if page.failed():
			_fail(page.error.code, page.error.message)
			return null
		for index: int in page.size():
			var room := page.get_room(index)
			if wanted.is_empty() or room.name == wanted:
				EventLog.emit("rooms_listed", {"count": page.size()})
				return room
		await get_tree().create_timer(0.25).timeout
	return null


func _physics_process(delta: float) -> void:
	var frog := _client.race.get_own_frog()
	if frog == null or _client.race.stage != Race.Stage.RUNNING:
		return
	_next_hop_in -= delta
	var landed := frog.motion.phase == FrogMotion.Phase.SITTING
	if landed and frog.motion.pads != _last_pads:
		_last_pads = frog.motion.pads
		_next_hop_in = _random.randf_range(0.02, 0.14)
	elif landed and _next_hop_in <= 0.0:
		frog.hop()
		_next_hop_in = 0.3
	elif frog.motion.phase == FrogMotion.Phase.HOPPING and _random.randf() < 0.0015:
		# People do not wait forever either.
		frog.hop()
		_last_pads = -1


func _shoot(screen: String) -> void:
	if _shots.is_empty():
		return
	# Two drawn frames: one for the layout, one for the picture.
	for frame: int in 2:
		await RenderingServer.frame_post_draw
	if screen == "server_browser":
		await get_tree().create_timer(1.0).timeout
	DirAccess.make_dir_recursive_absolute(_shots)
	var saved := get_viewport().get_texture().get_image().save_png(
		_shots.path_join(screen + ".png")
	)
	if saved != OK:
		_fail("screenshot", error_string(saved))


func _on_left(reason: String) -> void:
	if Arguments.has("until-closed"):
		_closed = true
	else:
		_fail("left", reason)


func _fail(code: String, message: String) -> void:
	EventLog.emit("failed", {"code": code, "message": message})
	get_tree().quit(1)
