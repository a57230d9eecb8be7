## The server browser: what its list shows, keeps and moves, and how players join from it.
extends "res://backend_suite.gd"

const ServerBrowser := preload("res://addons/backend_client/ui/server_browser.tscn")
const SHOWN_FIRST: Array[PackedScene] = [ServerBrowser]


func test_favorites_are_kept_for_each_profile() -> void:
	var profile := unique("saved")
	var saved := BackendSavedRooms.new(profile)
	check(saved.set_favorite("192.0.2.1:7777", 'Pond "1"', true), "favorite")
	saved.add_to_history("192.0.2.2:7777", "First")
	saved.add_to_history("192.0.2.3:7777", "Second")
	saved.add_to_history("192.0.2.2:7777", "First again")
	var read := BackendSavedRooms.new(profile)
	check_eq(read.get_favorites(), saved.get_favorites(), "favorites")
	check_eq(read.get_history().values(), ["First again", "Second"], "last joined first")
	check(not BackendSavedRooms.new(unique("other")).is_favorite("192.0.2.1:7777"), "other profile")
	for number: int in BackendSavedRooms.MAX_HISTORY + 5:
		read.add_to_history("192.0.2.9:%d" % number, "Server")
	check_eq(read.get_history().size(), BackendSavedRooms.MAX_HISTORY, "bounded")


func test_a_damaged_file_is_kept_aside() -> void:
	var profile := unique("damaged")
	var path := BackendSavedRooms.new(profile).get_path()
	DirAccess.make_dir_recursive_absolute(BackendSavedRooms.FOLDER)
	FileAccess.open(path, FileAccess.WRITE).store_string('{"favorites": [')
	var saved := BackendSavedRooms.new(profile)
	check(saved.problem.contains(".damaged"), "the problem names the file: " + saved.problem)
	check(FileAccess.file_exists(path + ".damaged"), "kept")
	check(saved.set_favorite("192.0.2.1:7777", "Pond", true), "works again")


func test_no_row_moves_while_somebody_points_at_one() -> void:
	var word := unique("Row")
	var servers: Array[BackendServerRegistration] = []
	for index: int in 4:
		servers.append(await new_server("%s %d" % [word, index]))
	var rooms := new_rooms(await new_player())
	var model := BackendRoomListModel.new(BackendSavedRooms.new(unique("rows")))
	await _read(model, rooms, word, false)
	check_eq(model.size(), 4, "rows")
	var before := _ids(model)
	# One ends, and a new one would sort before all others.
	succeeded(await servers[1].deregister().wait(), "deregister")
	await new_server(word + " !")
	await _read(model, rooms, word, true)
	check_eq(_ids(model).slice(0, 4), before, "rows that were there")
	check_eq(model.size(), 5, "the new one is at the end")
	check(model.at(1).is_gone and not model.at(1).is_joinable(), "the ended one is gone")
	await _read(model, rooms, word, false)
	check_eq(model.size(), 4, "rows once nobody points")
	check_eq(model.find(before[1]), -1, "the ended one has left")


func test_the_list_has_few_nodes_and_keeps_the_selected_row_in_place() -> void:
	var word := unique("Many")
	for index: int in 40:
		await new_server("%s %02d" % [word, index])
	var rooms := new_rooms(await new_player())
	var model := BackendRoomListModel.new(BackendSavedRooms.new(unique("many")))
	var list := BackendRoomList.new()
	list.size = Vector2(600, 300)
	add_child(list)
	list.set_model(model)
	await _read(model, rooms, word, false)
	check_eq(model.size(), 40, "rows")
	check(list.get_row_count() < 15, "%d row nodes" % list.get_row_count())
	list.select(model.id_at(20))
	var selected := model.id_at(20)
	var place := list.get_row_position(selected)
	check(place >= 0.0 and place < 300.0, "in view")
	for index: int in 5:
		await new_server("%s !%d" % [word, index])
	await _read(model, rooms, word, false)
	check_eq(model.find(selected), 25, "row of the selected room")
	check_eq(list.get_row_position(selected), place, "its place")


func test_the_browser_filters_and_sorts() -> void:
	var word := unique("Browse")
	for index: int in 3:
		var registration := new_registration("%s %d" % [word, index])
		registration.players = [1, 8, 3][index]
		succeeded(await registration.register().wait(), "register")
	var browser := await _browser(word)
	var list: BackendRoomList = browser.find_child("List", true, false)
	await until(func() -> bool: return _names(browser) == ["0", "1", "2"], WAIT_TIMEOUT, "by name")
	list.column_pressed.emit(BackendRoomColumns.Column.PLAYERS)
	await _settled(browser)
	await until(
		func() -> bool: return _names(browser) == ["1", "2", "0"],
		WAIT_TIMEOUT,
		"most players first"
	)
	(browser.find_child("NotFull", true, false) as CheckBox).button_pressed = true
	await _settled(browser)
	await until(
		func() -> bool: return _names(browser) == ["2", "0"], WAIT_TIMEOUT, "with a free place"
	)
	list.select(list.get_visible_ids()[0])
	var tickets := record(browser.ticket_received)
	browser.join_selected()
	await until(func() -> bool: return not tickets.is_empty(), WAIT_TIMEOUT, "a ticket")


func test_the_browser_sorts_by_ping_and_moves_no_row_under_the_pointer() -> void:
	var word := unique("Pinged")
	for index: int in 3:
		var registration := new_registration("%s %d" % [word, index])
		# The first two answer no pings.
		registration.query_enabled = index == 2
		succeeded(await registration.register().wait(), "register")
	var browser := await _browser(word)
	var list: BackendRoomList = browser.find_child("List", true, false)
	list.column_pressed.emit(BackendRoomColumns.Column.PING)
	await until(
		func() -> bool: return _names(browser) == ["0", "1", "2"],
		WAIT_TIMEOUT,
		"by name while no ping is known"
	)
	var last := list.get_visible_ids()[2]
	check(not list.has_ping_of(last), "not measured yet")
	# As a player with a gamepad points at a row.
	list.select(list.get_visible_ids()[0])
	list.grab_focus()
	await until(func() -> bool: return list.has_ping_of(last), WAIT_TIMEOUT, "measured")
	await _settled(browser)
	check_eq(_names(browser), ["0", "1", "2"], "no row has moved")
	list.release_focus()
	await until(
		func() -> bool: return _names(browser) == ["2", "0", "1"],
		WAIT_TIMEOUT,
		"the measured one first"
	)
	list.column_pressed.emit(BackendRoomColumns.Column.PING)
	await _settled(browser)
	check_eq(_names(browser), ["2", "0", "1"], "unknown ones are last in either direction")
	list.column_pressed.emit(BackendRoomColumns.Column.NAME)
	await until(
		func() -> bool: return _names(browser) == ["0", "1", "2"], WAIT_TIMEOUT, "by name again"
	)


func test_the_browser_follows_what_happens() -> void:
	var word := unique("Live")
	var first := new_registration(word + " a")
	succeeded(await first.register().wait(), "the first")
	var browser := await _browser(word)
	await _settled(browser)
	check_eq(_names(browser), ["a"], "at first")
	var second := new_registration(word + " b")
	succeeded(await second.register().wait(), "the second")
	await until(
		func() -> bool: return _names(browser) == ["a", "b"], WAIT_TIMEOUT, "a second server"
	)
	succeeded(await first.deregister().wait(), "deregister")
	await until(func() -> bool: return _names(browser) == ["b"], WAIT_TIMEOUT, "without the first")
	second.players = second.max_players
	var list: BackendRoomList = browser.find_child("List", true, false)
	await until(
		func() -> bool:
			var rows := list.find_children("*", "BackendRoomRow", true, false)
			return rows.any(
				func(row: BackendRoomRow) -> bool:
					return row.visible and row.listed != null and row.listed.is_full()
			),
		WAIT_TIMEOUT,
		"the second is full"
	)


func test_the_browser_asks_for_the_password() -> void:
	var word := unique("Locked")
	var registration := new_registration(word)
	registration.password = "tadpole"
	succeeded(await registration.register().wait(), "register")
	var browser := await _browser(word)
	var list: BackendRoomList = browser.find_child("List", true, false)
	var prompt: BackendPrompt = browser.find_child("Prompt", true, false)
	var tickets := record(browser.ticket_received)
	list.select(list.get_visible_ids()[0])
	browser.join_selected()
	check(prompt.visible, "the prompt")
	prompt.submitted.emit("wrong")
	await _settled(browser)
	check(prompt.visible and tickets.is_empty(), "still there after a wrong password")
	prompt.submitted.emit("tadpole")
	await until(func() -> bool: return not tickets.is_empty(), WAIT_TIMEOUT, "a ticket")
	check(not prompt.visible, "the prompt has closed")


func test_quick_play_joins_a_room_that_fits_the_filters() -> void:
	var word := unique("Quick")
	var registration := new_registration(word)
	succeeded(await registration.register().wait(), "register")
	var browser := await _browser(word)
	var tickets := record(browser.ticket_received)
	var button: Button = browser.find_child("QuickPlay", true, false)
	button.pressed.emit()
	check_eq(button.text, "Cancel", "while it looks for a room")
	await until(func() -> bool: return not tickets.is_empty(), WAIT_TIMEOUT, "a ticket")
	check_eq((tickets[0][0] as BackendJoinTicket).room_id, registration.server_id, "room")
	check_eq(button.text, "Quick play", "afterwards")
	# A room of one's own may be for friends only; quick play is for everybody.
	browser.create_options = BackendRoomOptions.new()
	browser.create_options.visibility = BackendServerRegistration.VISIBILITY_UNLISTED
	button.pressed.emit()
	await until(func() -> bool: return tickets.size() == 2, WAIT_TIMEOUT, "a second ticket")
	browser.create_options = null
	(browser.find_child("Search", true, false) as LineEdit).text = unique("Nobody")
	browser.quick_play()
	check(browser.is_busy(), "looks for a room")
	button.pressed.emit()
	await _settled(browser)
	check_eq(tickets.size(), 2, "no ticket after the cancellation")
	browser.quick_play()
	browser.hide()
	await until(
		func() -> bool: return not browser.is_busy(), WAIT_TIMEOUT, "who leaves searches no more"
	)
	check_eq(tickets.size(), 2, "no ticket for a hidden browser")


func test_a_room_that_is_not_created_is_explained_in_its_form() -> void:
	var browser := await _browser((await new_server(unique("Form"))).server_name)
	var create: Button = browser.find_child("CreateRoom", true, false)
	check(not create.visible, "without options")
	var suggested := BackendRoomOptions.new()
	suggested.room_name = "Pond"
	suggested.map = "swamp"
	suggested.max_players = 8
	suggested.visibility = BackendServerRegistration.VISIBILITY_PRIVATE
	browser.create_options = suggested
	check(create.visible, "with options")
	create.pressed.emit()
	var form: BackendRoomForm = browser.find_child("RoomForm", true, false)
	var submitted := record(form.submitted)
	check(form.visible and not (browser.find_child("Main", true, false) as Control).visible, "form")
	(form.find_child("Count", true, false) as SpinBox).value = 4
	(form.find_child("Password", true, false) as BackendFormField).text = "tadpole"
	(form.find_child("Create", true, false) as Button).pressed.emit()
	check_eq(submitted.size(), 1, "submitted")
	var options: BackendRoomOptions = submitted[0][0]
	check_eq([options.room_name, options.map, options.max_players], ["Pond", "swamp", 4], "options")
	check_eq(options.password, "tadpole", "password")
	check_eq(options.visibility, BackendServerRegistration.VISIBILITY_PRIVATE, "visibility")
	check_eq(suggested.max_players, 8, "what the game suggests is left alone")
	# The backend of these suites starts no servers.
	await _settled(browser)
	var status: Label = form.find_child("Status", true, false)
	check_eq(status.text, "You cannot create rooms here.", "why")
	(form.find_child("Cancel", true, false) as Button).pressed.emit()
	check(not form.visible, "closed")


# A browser that shows the rooms with `word` in their names.
func _browser(word: String) -> BackendServerBrowser:
	var browser: BackendServerBrowser = ServerBrowser.instantiate()
	browser.rooms = new_rooms(await new_player())
	browser.size = Vector2(700, 500)
	add_child(browser)
	(browser.find_child("Search", true, false) as LineEdit).text = word
	browser.refresh()
	await until(
		func() -> bool: return browser.state == BackendServerBrowser.State.ROOMS,
		WAIT_TIMEOUT,
		"rooms"
	)
	return browser


func _settled(browser: BackendServerBrowser) -> void:
	await frames(2)
	await until(func() -> bool: return not browser.is_busy(), WAIT_TIMEOUT, "the browser is idle")


# The last words of the names in view.
func _names(browser: BackendServerBrowser) -> Array:
	var names := []
	var list: BackendRoomList = browser.find_child("List", true, false)
	for row: Node in list.find_children("*", "BackendRoomRow", true, false):
		var shown := row as BackendRoomRow
		if shown.visible and shown.listed != null:
			names.append([shown.position.y, shown.listed.name.get_slice(" ", 1)])
	names.sort()
	return names.map(func(name: Array) -> String: return name[1])


func _read(model: BackendRoomListModel, rooms: BackendRooms, word: String, held: bool) -> void:
	var query := BackendRoomQuery.new()
	query.search = word
	var page: BackendRoomPage = await rooms.list_all_rooms(query).wait()
	if succeeded(page, "list"):
		model.start(page, null, held)
		while model.is_reading():
			model.read(1)


func _ids(model: BackendRoomListModel) -> Array[String]:
	var ids: Array[String] = []
	for row: int in model.size():
		ids.append(model.id_at(row))
	return ids
