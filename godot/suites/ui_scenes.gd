## The ready-made scenes: their texts, what they keep, and what they do with a real backend.
extends "res://backend_suite.gd"

const LoginForm := preload("res://addons/backend_client/ui/login_form.tscn")
const ConnectionLost := preload("res://addons/backend_client/ui/connection_lost.tscn")
const ServerBrowser := preload("res://addons/backend_client/ui/server_browser.tscn")
const MatchmakingPanel := preload("res://addons/backend_client/ui/matchmaking_panel.tscn")
const SHOWN_FIRST: Array[PackedScene] = [LoginForm, ConnectionLost, ServerBrowser, MatchmakingPanel]
const FOLDER := "res://addons/backend_client/ui/"
const PASSWORD := "correct horse battery"
const PLURALS: Array[String] = [
	"Next attempt in %d seconds.", "Usually about %d minutes.", "%d seconds left to answer."
]
const LOCALES: Array[String] = ["en", "de", "es", "ja", "zh_CN"]


func test_every_text_is_translated_into_every_language() -> void:
	var wanted := _texts_of_scripts(FOLDER)
	wanted.merge(_texts_of_scripts(FOLDER + "server_browser/"))
	for scene: PackedScene in [LoginForm, ConnectionLost, ServerBrowser, MatchmakingPanel]:
		var shown := scene.instantiate()
		if shown is BackendMatchmakingPanel:
			(shown as BackendMatchmakingPanel).matchmaker = BackendMatchmaker.new()
			shown.add_child((shown as BackendMatchmakingPanel).matchmaker)
		add_child(shown)
		wanted.merge(_texts_of_nodes(shown))
		shown.free()
	check(wanted.size() > 60, "texts found: %d" % wanted.size())
	for catalog: Translation in BackendUiTranslations.CATALOGS:
		check(catalog.locale in LOCALES, "locale " + catalog.locale)
		var keys := catalog.get_message_list()
		for text: String in wanted:
			check(text in keys, '%s: no text for "%s"' % [catalog.locale, text])
		for key: String in keys:
			check(not catalog.get_message(key).is_empty(), '%s: "%s"' % [catalog.locale, key])
	check_eq(BackendUiTranslations.CATALOGS.size(), LOCALES.size(), "languages")


# The built-in font has neither Japanese nor Chinese characters.
func test_characters_that_the_font_lacks_come_from_fonts_of_the_system() -> void:
	for scene: PackedScene in SHOWN_FIRST:
		var shown: Control = scene.instantiate()
		add_child(shown)
		check(_takes_system_fonts(shown.get_theme_default_font()), "the font of %s" % shown.name)
		for node: Node in shown.find_children("*", "Control", true, false):
			var control: Control = node
			if control.has_theme_font(&"font"):
				var font := control.get_theme_font(&"font")
				check(_takes_system_fonts(font), "the font of %s" % control.get_path())
		shown.free()


func _takes_system_fonts(font: Font) -> bool:
	var variation := font as FontVariation
	if variation != null:
		return _takes_system_fonts(variation.base_font)
	var file := font as FontFile
	return file != null and file.allow_system_fallback


func test_the_games_own_texts_are_left_alone() -> void:
	var form: BackendLoginForm = LoginForm.instantiate()
	form.restore_session = false
	add_child(form)
	TranslationServer.set_locale("de")
	check_eq(form.tr("Password"), "Passwort", "in the scene")
	check_eq(tr("Password"), "Password", "in the game")
	TranslationServer.set_locale("en")


func test_nodes_from_the_dialog_have_their_content() -> void:
	for panel: BackendScenePanel in [
		BackendLoginForm.new(),
		BackendServerBrowser.new(),
		BackendConnectionLost.new(),
		_matchmaking_panel(BackendMatchmaker.new()),
	]:
		if panel.get_parent() == null:
			add_child(panel)
		check(panel.find_children("*", "Button", true, false).size() >= 2, "buttons")
		panel.free()


func test_colors_are_readable_on_light_and_dark_panels() -> void:
	for background: Color in [Color("0c1a20"), Color("2e2e2e"), Color("f5f5f0"), Color("fff")]:
		var text := Color.WHITE if background.get_luminance() < 0.5 else Color.BLACK
		for wanted: Color in [Color.RED, Color("f5c518"), Color("46a758"), background]:
			var got := BackendUiTheme.readable(wanted, background, text)
			var contrast := BackendUiTheme.contrast(got, background)
			check(contrast >= 4.5, "%s on %s: %.2f" % [wanted, background, contrast])


func test_errors_are_shown_at_their_field() -> void:
	var session := new_session()
	var form := _login_form(session)
	form.show_mode(BackendLoginForm.Mode.REGISTER)
	_type(form, {"DisplayName": " ", "Email": "ada", "Password": "short"})
	form.submit()
	check(not form.is_busy(), "nothing is sent")
	for field: String in ["DisplayName", "Email", "Password"]:
		check(not _field(form, field).get_error().is_empty(), field + " has an error")
	var email := unique("ada") + "@example.com"
	_type(form, {"DisplayName": "Ada", "Email": email, "Password": PASSWORD})
	form.submit()
	check(form.is_busy(), "busy")
	await until(func() -> bool: return not form.is_busy(), WAIT_TIMEOUT, "registered")
	check(session.is_logged_in(), "logged in")
	form.show_mode(BackendLoginForm.Mode.REGISTER)
	_type(form, {"DisplayName": "Ada", "Email": email, "Password": PASSWORD})
	form.submit()
	await until(func() -> bool: return not form.is_busy(), WAIT_TIMEOUT, "refused")
	check(_field(form, "Email").get_error().contains("already"), "taken address")
	check_eq(_field(form, "Password").get_error(), "", "password")


func test_a_guest_links_an_address_and_the_session_is_resumed() -> void:
	var session := await new_player("Guest")
	var player_id := session.player_id
	var form := _login_form(session)
	var linked := record(form.account_linked)
	form.show_link_account()
	_type(form, {"Email": unique("guest") + "@example.com", "Password": PASSWORD})
	form.submit()
	await until(func() -> bool: return not linked.is_empty(), WAIT_TIMEOUT, "linked")
	check(not (linked[0][0] as BackendAccount).is_guest, "no guest any more")
	var again := BackendSession.new()
	again.profile = session.profile
	session.free()
	add_child(again)
	var resumed: BackendLoginForm = LoginForm.instantiate()
	resumed.session = again
	add_child(resumed)
	check(resumed.is_busy(), "busy while the session is resumed")
	await until(func() -> bool: return again.is_logged_in(), WAIT_TIMEOUT, "resumed")
	check_eq(again.player_id, player_id, "player")


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


func test_the_overlay_counts_down_and_gives_up() -> void:
	var overlay: BackendConnectionLost = ConnectionLost.instantiate()
	overlay.retry_delays = [0.05]
	add_child(overlay)
	check(not overlay.visible, "hidden at first")
	var requests := record(overlay.reconnect_requested)
	multiplayer.server_disconnected.emit()
	check_eq(overlay.state, BackendConnectionLost.State.WAITING, "state")
	await until(func() -> bool: return not requests.is_empty(), WAIT_TIMEOUT, "an attempt")
	check_eq(overlay.state, BackendConnectionLost.State.RECONNECTING, "state")
	multiplayer.connection_failed.emit()
	check_eq(overlay.state, BackendConnectionLost.State.GIVEN_UP, "no delays left")
	overlay.reconnect()
	check_eq(requests.size(), 2, "attempts")
	multiplayer.connected_to_server.emit()
	check(not overlay.visible and overlay.attempt == 0, "closed")


func test_the_matchmaking_panel_leads_from_the_search_to_the_match() -> void:
	var server := new_registration(unique("Panel"))
	server.mode = "asked"
	succeeded(await server.register().wait(), "register")
	var panels: Array[BackendMatchmakingPanel] = []
	for _index: int in 2:
		var node := BackendMatchmaker.new()
		node.session = await new_player()
		node.matchmaker = "asked"
		panels.append(_matchmaking_panel(node))
	var found := record(panels[0].match_ready)
	for panel: BackendMatchmakingPanel in panels:
		_button(panel, "First").pressed.emit()
		check_eq(panel.state, BackendMatchmakingPanel.State.IDLE, "before the first frame")
	await _until_panels(panels, BackendMatchmakingPanel.State.PROPOSED)
	# Both panels wanted it, and one has it.
	var focused := get_viewport().gui_get_focus_owner()
	check(
		focused in [_button(panels[0], "First"), _button(panels[1], "First")], "accept is focused"
	)
	_button(panels[1], "Second").pressed.emit()
	await _until_panels([panels[1]], BackendMatchmakingPanel.State.FAILED)
	_button(panels[0], "First").pressed.emit()
	await _until_panels([panels[0]], BackendMatchmakingPanel.State.SEARCHING)
	_button(panels[1], "First").pressed.emit()
	await _until_panels(panels, BackendMatchmakingPanel.State.PROPOSED)
	for panel: BackendMatchmakingPanel in panels:
		_button(panel, "First").pressed.emit()
	await _until_panels(panels, BackendMatchmakingPanel.State.READY)
	check_eq(found.size(), 1, "match_ready")
	check_eq((found[0][0] as BackendMatch).room_id, server.server_id, "room")


func test_the_matchmaking_panel_shows_why_there_is_no_search() -> void:
	var node := BackendMatchmaker.new()
	node.session = new_session()
	node.matchmaker = "duel"
	var panel := _matchmaking_panel(node)
	var cancelled := record(panel.search_cancelled)
	panel.search()
	await _until_panels([panel], BackendMatchmakingPanel.State.FAILED)
	check_eq((panel.find_child("Message", true, false) as Label).text, "Log in first.", "message")
	await node.session.login_anonymous().wait()
	panel.search()
	await _until_panels([panel], BackendMatchmakingPanel.State.SEARCHING)
	await until(func() -> bool: return not node.ticket_id.is_empty(), WAIT_TIMEOUT, "a ticket")
	_button(panel, "Second").pressed.emit()
	await _until_panels([panel], BackendMatchmakingPanel.State.IDLE)
	await frames(2)
	check_eq(cancelled.size(), 1, "search_cancelled")


func _matchmaking_panel(node: BackendMatchmaker) -> BackendMatchmakingPanel:
	var panel: BackendMatchmakingPanel = MatchmakingPanel.instantiate()
	panel.matchmaker = node
	panel.add_child(node)
	add_child(panel)
	return panel


func _button(panel: BackendScenePanel, button: String) -> Button:
	return panel.find_child(button, true, false)


func _until_panels(panels: Array[BackendMatchmakingPanel], state: int) -> void:
	var all := func(panel: BackendMatchmakingPanel) -> bool: return panel.state == state
	await until(
		func() -> bool: return panels.all(all) and not panels.any(_is_busy),
		WAIT_TIMEOUT,
		"state %d" % state
	)


func _is_busy(panel: BackendMatchmakingPanel) -> bool:
	return panel.is_busy()


func _login_form(session: BackendSession) -> BackendLoginForm:
	var form: BackendLoginForm = LoginForm.instantiate()
	form.session = session
	form.restore_session = false
	add_child(form)
	return form


func _field(form: BackendLoginForm, field: String) -> BackendFormField:
	return form.find_child(field, true, false)


func _type(form: BackendLoginForm, texts: Dictionary[String, String]) -> void:
	for field: String in texts:
		_field(form, field).text = texts[field]


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


# Sentences in the scripts of a folder: literals that begin with a capital and have a space or are
# a title.
func _texts_of_scripts(folder: String) -> Dictionary[String, bool]:
	var found: Dictionary[String, bool] = {}
	var literal := RegEx.create_from_string('"([A-Z8][^"\\\\]* [^"\\\\]*|%d ms|offline)"')
	for file: String in DirAccess.get_files_at(folder):
		if file.get_extension() != "gd":
			continue
		for line: String in FileAccess.get_file_as_string(folder + file).split("\n"):
			if line.strip_edges().begins_with("#") or line.contains("push_"):
				continue
			for hit: RegExMatch in literal.search_all(line):
				# The plural is a form of its singular.
				if not hit.get_string(1) in PLURALS:
					found[hit.get_string(1)] = true
	return found


func _texts_of_nodes(scene: Node) -> Dictionary[String, bool]:
	var found: Dictionary[String, bool] = {}
	for node: Node in scene.find_children("*", "Control", true, false):
		if not node.can_auto_translate():
			continue
		for property: StringName in [&"text", &"placeholder_text"]:
			if property in node and not str(node.get(property)).is_empty():
				found[str(node.get(property))] = true
		var options := node as OptionButton
		if options != null:
			for item: int in options.item_count:
				found[options.get_item_text(item)] = true
	return found
