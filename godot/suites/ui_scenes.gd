## The ready-made scenes: their texts, what they keep, and what they do with a real backend.
extends "res://backend_suite.gd"

const LoginForm := preload("res://addons/backend_client/ui/login_form.tscn")
const ConnectionLost := preload("res://addons/backend_client/ui/connection_lost.tscn")
const ServerBrowser := preload("res://addons/backend_client/ui/server_browser.tscn")
const MatchmakingPanel := preload("res://addons/backend_client/ui/matchmaking_panel.tscn")
const SHOWN_FIRST: Array[PackedScene] = [LoginForm, ConnectionLost, MatchmakingPanel]
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
