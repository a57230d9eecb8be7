## Shows the ready-made scenes in a window, one state after the other, against a real backend, and
## takes a screenshot of each. `tests/e2e/tests/scenes.rs` runs it and looks at the pictures.
##
##     godot --path godot -s res://scene_screenshots.gd -- --screenshots=FOLDER --font=FILE
##
## The built-in font has no Japanese and Chinese characters; they are taken from `FILE`.
## `BACKEND_URL` has servers, `EMPTY_BACKEND_URL` has none, and nobody answers at `CLOSED_URL`.
extends SceneTree

const SCENES := "res://addons/backend_client/ui/"
const LANGUAGES: Array[String] = ["de", "es", "ja", "zh_CN"]
const PASSWORD := "correct horse battery"
const ROOM_PASSWORD := "tadpole"

var _folder := ""
var _center: CenterContainer


func _initialize() -> void:
	for argument: String in OS.get_cmdline_user_args():
		if argument.begins_with("--screenshots="):
			_folder = argument.trim_prefix("--screenshots=")
		elif argument.begins_with("--font="):
			_add_font(argument.trim_prefix("--font="))
	DirAccess.make_dir_recursive_absolute(_folder)
	# Waits until the tree runs.
	_run.call_deferred()


# A game does this in its theme. Without it, the pictures would depend on the fonts of the machine.
func _add_font(path: String) -> void:
	var font := FontFile.new()
	if font.load_dynamic_font(path) != OK:
		print("SCENES failed: no font ", path)
		quit(1)
	(ThemeDB.fallback_font as FontFile).allow_system_fallback = false
	ThemeDB.fallback_font.fallbacks = [font]


func _run() -> void:
	TranslationServer.set_locale("en")
	await _login_form()
	await _connection_lost()
	await _matchmaking_panel()
	await _server_browser()
	await _many_rooms()
	print("SCENES done")
	quit(0)


func _login_form() -> void:
	var session := _session(OS.get_environment("BACKEND_URL"))
	var form: BackendLoginForm = _show("login_form.tscn")
	form.session = session
	await _shoot("login_log_in")
	form.show_mode(BackendLoginForm.Mode.REGISTER)
	_type(form, "DisplayName", "Ada")
	_type(form, "Email", "ada")
	_type(form, "Password", "short")
	form.submit()
	await _shoot("login_register_errors")
	var email := "ada-%d@example.com" % OS.get_process_id()
	_type(form, "Email", email)
	_type(form, "Password", PASSWORD)
	form.submit()
	await _shoot("login_busy")
	await _until(func() -> bool: return session.is_logged_in() and not form.is_busy())
	await session.logout().wait()
	_type(form, "Email", email)
	_type(form, "Password", "a wrong password")
	form.submit()
	await _until(func() -> bool: return not form.is_busy())
	await _shoot("login_wrong_password")
	form.show_mode(BackendLoginForm.Mode.REGISTER)
	_type(form, "DisplayName", "Ada")
	_type(form, "Password", PASSWORD)
	form.submit()
	await _until(func() -> bool: return not form.is_busy())
	await _shoot("login_account_exists")
	form.show_mode(BackendLoginForm.Mode.GUEST)
	await _shoot("login_guest")
	form.show_mode(BackendLoginForm.Mode.REQUEST_CODE)
	await _shoot("login_request_code")
	form.submit()
	await _until(func() -> bool: return not form.is_busy())
	await _shoot("login_code_sent")
	form.show_link_account()
	await _shoot("login_link_account")
	form.show_mode(BackendLoginForm.Mode.LOG_IN)
	await _shoot_languages("login_")
	TranslationServer.set_locale("ar")
	await _shoot("login_right_to_left")
	TranslationServer.set_locale("en")
	root.content_scale_factor = 2.0
	form.show_mode(BackendLoginForm.Mode.REGISTER)
	await _shoot("login_200_percent")
	# Lines without spaces are broken as well.
	TranslationServer.set_locale("ja")
	_type(form, "Password", "short")
	form.submit()
	await _shoot("login_ja_200_percent")
	TranslationServer.set_locale("en")
	root.content_scale_factor = 1.0
	_clear()
	session.queue_free()


func _connection_lost() -> void:
	var overlay: BackendConnectionLost = _show("connection_lost.tscn")
	overlay.report_failure("The server has closed the connection.")
	await _shoot("connection_lost_waiting")
	await _shoot_languages("connection_lost_")
	overlay.reconnect()
	await _shoot("connection_lost_reconnecting")
	overlay.retry_delays = []
	overlay.report_failure("The server cannot be reached.")
	await _shoot("connection_lost_given_up")
	await _shoot_doubled("connection_lost_200_percent")
	TranslationServer.set_locale("zh_CN")
	await _shoot_doubled("connection_lost_zh_CN_200_percent")
	TranslationServer.set_locale("en")
	_clear()


func _matchmaking_panel() -> void:
	var panel := _panel("duel")
	var node := panel.matchmaker
	await _shoot("matchmaking_idle")
	panel.search()
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.FAILED)
	await _shoot("matchmaking_failed")
	await node.session.login_anonymous("Ada").wait()
	panel.options = BackendMatchOptions.new()
	panel.options.party_size = 2
	panel.search()
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.PARTY)
	await _shoot("matchmaking_party")
	var member := _searcher("duel")
	await member.session.login_anonymous("Bea").wait()
	member.join_party(node.ticket_id)
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.SEARCHING)
	await _shoot("matchmaking_searching")
	await _shoot_languages("matchmaking_")
	TranslationServer.set_locale("ar")
	await _shoot("matchmaking_right_to_left")
	TranslationServer.set_locale("en")
	node.cancel()
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.IDLE)
	panel.options = null
	await _proposal(panel, member)
	_clear()
	member.queue_free()


# A match of this player and another one, of which the second declines the first proposal.
func _proposal(panel: BackendMatchmakingPanel, other: BackendMatchmaker) -> void:
	panel.matchmaker.matchmaker = "asked"
	other.matchmaker = "asked"
	await _until(func() -> bool: return not other.is_searching())
	panel.search()
	other.find_match()
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.PROPOSED)
	await _shoot("matchmaking_proposed")
	await _shoot_languages("matchmaking_proposed_")
	await _shoot_doubled("matchmaking_200_percent")
	await panel.matchmaker.accept().wait()
	await _shoot("matchmaking_accepted")
	await _until(func() -> bool: return other.status == BackendMatchmaker.STATUS_PROPOSED)
	await other.decline().wait()
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.SEARCHING)
	await _shoot("matchmaking_searching_again")
	await _until(func() -> bool: return not other.is_searching())
	other.find_match()
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.PROPOSED)
	await panel.matchmaker.accept().wait()
	await _until(func() -> bool: return other.status == BackendMatchmaker.STATUS_PROPOSED)
	await other.accept().wait()
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.PLACING)
	await _shoot("matchmaking_placing")
	# The test starts a server that fits.
	await _until(func() -> bool: return panel.state == BackendMatchmakingPanel.State.READY)
	await _shoot("matchmaking_ready")


func _searcher(matchmaker: String) -> BackendMatchmaker:
	var node := BackendMatchmaker.new()
	node.session = _session(OS.get_environment("BACKEND_URL"))
	node.session.profile = "screenshots-%d" % node.get_instance_id()
	node.matchmaker = matchmaker
	root.add_child(node)
	return node


func _panel(matchmaker: String) -> BackendMatchmakingPanel:
	var node := _searcher(matchmaker)
	_center = CenterContainer.new()
	_center.set_anchors_preset(Control.PRESET_FULL_RECT)
	root.add_child(_center)
	node.reparent(_center)
	var panel: BackendMatchmakingPanel = (
		(load(SCENES + "matchmaking_panel.tscn") as PackedScene).instantiate()
	)
	panel.matchmaker = node
	_center.add_child(panel)
	return panel


func _server_browser() -> void:
	var session := _session(OS.get_environment("BACKEND_URL"))
	var browser := _browser(session)
	await _shoot("browser_not_logged_in")
	await session.login_anonymous("Ada").wait()
	browser.refresh()
	await _shoot("browser_loading")
	_search(browser, "Pond")
	await _until(func() -> bool: return browser.state == BackendServerBrowser.State.ROOMS)
	await _settled(browser)
	await _shoot("browser_rooms")
	var list: BackendRoomList = browser.find_child("List", true, false)
	list.grab_focus()
	for key: Key in [KEY_DOWN, KEY_DOWN, KEY_SPACE]:
		_press(key)
	await _settled(browser)
	await _shoot("browser_selected")
	await _languages_of_browser(browser)
	await _prompts(browser)
	await _own_room(browser)
	_search(browser, "no such server")
	await _until(func() -> bool: return browser.state == BackendServerBrowser.State.NO_MATCH)
	await _shoot("browser_no_match")
	# The engine leaks what a coroutine awaits when its node is freed.
	await _settled(browser)
	_clear()
	session.queue_free()
	for state: String in ["empty", "offline"]:
		var variable := "EMPTY_BACKEND_URL" if state == "empty" else "CLOSED_URL"
		await _state_of_browser(state, OS.get_environment(variable))


func _languages_of_browser(browser: BackendServerBrowser) -> void:
	await _shoot_languages("browser_")
	TranslationServer.set_locale("ar")
	await _shoot("browser_right_to_left")
	TranslationServer.set_locale("en")
	root.content_scale_factor = 2.0
	browser.custom_minimum_size = Vector2(560, 310)
	await _shoot("browser_200_percent")
	root.content_scale_factor = 1.0
	browser.custom_minimum_size = Vector2(440, 600)
	await _shoot("browser_narrow")
	TranslationServer.set_locale("ja")
	await _shoot("browser_ja_narrow")
	TranslationServer.set_locale("en")
	browser.custom_minimum_size = Vector2(900, 560)


func _prompts(browser: BackendServerBrowser) -> void:
	_search(browser, "Pond locked")
	await _until(func() -> bool: return browser.state == BackendServerBrowser.State.ROOMS)
	await _settled(browser)
	var list: BackendRoomList = browser.find_child("List", true, false)
	await _until(func() -> bool: return list.get_visible_ids().size() == 1)
	list.select(list.get_visible_ids()[0])
	browser.join_selected()
	await _shoot("browser_password")
	_answer(browser, "wrong")
	await _until(func() -> bool: return not browser.is_busy())
	await _shoot("browser_wrong_password")
	var tickets: Array[BackendJoinTicket] = []
	browser.ticket_received.connect(func(ticket: BackendJoinTicket) -> void: tickets.append(ticket))
	_answer(browser, ROOM_PASSWORD)
	await _until(func() -> bool: return not tickets.is_empty())
	browser.enter_invite_code()
	await _shoot("browser_invite_code")
	_answer(browser, "AAA-AAA")
	await _until(func() -> bool: return not browser.is_busy())
	await _shoot("browser_unknown_code")
	browser.get_viewport().gui_release_focus()
	_press(KEY_ESCAPE)
	await process_frame


# The server of the room is a real one, and so is the wait for it.
func _own_room(browser: BackendServerBrowser) -> void:
	var suggested := BackendRoomOptions.new()
	suggested.room_name = "Pond of Ada"
	suggested.max_players = 8
	browser.create_options = suggested
	var tickets: Array[BackendJoinTicket] = []
	browser.ticket_received.connect(func(ticket: BackendJoinTicket) -> void: tickets.append(ticket))
	browser.create_room()
	await _shoot("browser_create_room")
	await _shoot_languages("browser_create_room_")
	browser.custom_minimum_size = Vector2(560, 310)
	await _shoot_doubled("browser_create_room_200_percent")
	browser.custom_minimum_size = Vector2(900, 560)
	var field: BackendFormField = browser.find_child("RoomForm", true, false).find_child("Name")
	field.text = " "
	_press_button(browser, "Create")
	await _shoot("browser_room_without_a_name")
	field.text = "Pond of Ada"
	(browser.find_child("Unlisted", true, false) as CheckBox).button_pressed = true
	_press_button(browser, "Create")
	await _shoot("browser_room_starting")
	await _until(func() -> bool: return not tickets.is_empty())
	if tickets[0].invite_code.length() != 7 or tickets[0].room.name != "Pond of Ada":
		print("SCENES failed: the ticket is not for an unlisted room: ", tickets[0].room.name)
		quit(1)
	# No listed room fits, and there is no place for another server.
	_search(browser, "Pond of Bea")
	browser.quick_play()
	await _shoot("browser_quick_play")
	_press_button(browser, "QuickPlay")
	await _until(func() -> bool: return not browser.is_busy())
	browser.create_options = null


func _state_of_browser(state: String, url: String) -> void:
	var session := _session(OS.get_environment("EMPTY_BACKEND_URL"))
	await session.login_anonymous("Ada").wait()
	var browser := _browser(session)
	var config := BackendConfig.new()
	config.use_overrides = false
	config.base_url = url
	browser.rooms.config = config
	browser.refresh()
	var wanted := (
		BackendServerBrowser.State.EMPTY if state == "empty" else BackendServerBrowser.State.OFFLINE
	)
	await _until(func() -> bool: return browser.state == wanted)
	await _shoot("browser_" + state)
	if state == "empty":
		await _refused_room(browser)
	_clear()
	session.queue_free()


# This backend starts no servers.
func _refused_room(browser: BackendServerBrowser) -> void:
	browser.create_options = BackendRoomOptions.new()
	browser.create_options.room_name = "Pond"
	browser.create_room()
	_press_button(browser, "Create")
	await _until(func() -> bool: return not browser.is_busy())
	await _shoot("browser_room_refused")


## Scrolls through all rooms of the backend and prints what a frame costs.
func _many_rooms() -> void:
	var session := _session(OS.get_environment("BACKEND_URL"))
	await session.login_anonymous("Ada").wait()
	var browser := _browser(session)
	browser.refresh()
	await _until(func() -> bool: return browser.state == BackendServerBrowser.State.ROOMS)
	await _settled(browser)
	var list: BackendRoomList = browser.find_child("List", true, false)
	await _shoot("browser_many_rooms")
	var scrolling: Array[int] = []
	var frames: Array[float] = []
	var height := list.get_content_height()
	for step: int in 300:
		var before := Time.get_ticks_usec()
		list.scroll_to(height * step / 300.0)
		scrolling.append(Time.get_ticks_usec() - before)
		await process_frame
		frames.append(Performance.get_monitor(Performance.TIME_PROCESS) * 1000.0)
	scrolling.sort()
	frames.sort()
	print(
		(
			"SCENES scrolled rooms=%d rows=%d scroll_median_us=%d scroll_max_us=%d"
			% [list.get_room_count(), list.get_row_count(), scrolling[150], scrolling[-1]]
		)
	)
	print("SCENES frames median_ms=%.2f p99_ms=%.2f" % [frames[150], frames[297]])
	_clear()
	session.queue_free()


func _session(url: String) -> BackendSession:
	var config := BackendConfig.new()
	config.use_overrides = false
	config.base_url = url
	var session := BackendSession.new()
	session.config = config
	root.add_child(session)
	return session


func _show(scene: String) -> Control:
	_center = CenterContainer.new()
	_center.set_anchors_preset(Control.PRESET_FULL_RECT)
	root.add_child(_center)
	var control: Control = (load(SCENES + scene) as PackedScene).instantiate()
	_center.add_child(control)
	return control


func _browser(session: BackendSession) -> BackendServerBrowser:
	var rooms := BackendRooms.new()
	rooms.session = session
	session.add_child(rooms)
	_center = CenterContainer.new()
	_center.set_anchors_preset(Control.PRESET_FULL_RECT)
	root.add_child(_center)
	var browser: BackendServerBrowser = (
		(load(SCENES + "server_browser.tscn") as PackedScene).instantiate()
	)
	browser.rooms = rooms
	browser.custom_minimum_size = Vector2(900, 560)
	_center.add_child(browser)
	return browser


func _clear() -> void:
	_center.free()


func _type(form: BackendLoginForm, field: String, text: String) -> void:
	var found: BackendFormField = form.find_child(field, true, false)
	found.text = text
	found.show_error("")


func _search(browser: BackendServerBrowser, text: String) -> void:
	var field: LineEdit = browser.find_child("Search", true, false)
	field.text = text
	field.text_changed.emit(text)
	field.text_submitted.emit(text)


func _press_button(browser: BackendServerBrowser, button: String) -> void:
	(browser.find_child(button, true, false) as Button).pressed.emit()


func _answer(browser: BackendServerBrowser, text: String) -> void:
	var prompt: BackendPrompt = browser.find_child("Prompt", true, false)
	prompt.submitted.emit(text)


func _press(key: Key) -> void:
	for pressed: bool in [true, false]:
		var event := InputEventKey.new()
		event.keycode = key
		event.pressed = pressed
		root.push_input(event)


func _settled(browser: BackendServerBrowser) -> void:
	for frame: int in 3:
		await process_frame
	await _until(func() -> bool: return not browser.is_busy())


func _until(condition: Callable) -> void:
	var deadline := Time.get_ticks_msec() + 120_000
	while not condition.call():
		if Time.get_ticks_msec() > deadline:
			print("SCENES failed: not reached: ", get_stack())
			quit(1)
		await process_frame


func _shoot_languages(prefix: String) -> void:
	for language: String in LANGUAGES:
		TranslationServer.set_locale(language)
		await _shoot(prefix + language)
		_check_characters(root, language)
	TranslationServer.set_locale("en")


# A character that the font lacks is drawn as a box with its number.
func _check_characters(node: Node, language: String) -> void:
	var control := node as Control
	if control != null and control.is_visible_in_tree() and &"text" in control:
		var font := control.get_theme_font(&"font")
		for character: String in control.atr(control.get(&"text") as String):
			if not font.has_char(character.unicode_at(0)):
				print("SCENES failed: the font has no %s (%s)" % [character, language])
				quit(1)
	for child: Node in node.get_children(true):
		_check_characters(child, language)


func _shoot_doubled(name: String) -> void:
	root.content_scale_factor = 2.0
	await _shoot(name)
	root.content_scale_factor = 1.0


func _shoot(name: String) -> void:
	# Two drawn frames: one for the layout, one for the picture.
	for frame: int in 2:
		await RenderingServer.frame_post_draw
	var saved := root.get_texture().get_image().save_png(_folder.path_join(name + ".png"))
	if saved != OK:
		print("SCENES failed: ", error_string(saved))
		quit(1)
	print("SCENES shot ", name)
