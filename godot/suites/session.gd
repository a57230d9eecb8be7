## Logging in and staying logged in, from a script's point of view.
extends "res://backend_suite.gd"

const PASSWORD := "correct horse battery"


func test_a_guest_logs_in() -> void:
	var session := new_session()
	var logins := record(session.logged_in)
	check_eq(session.is_logged_in(), false, "logged in before")
	check_eq(session.player_id, "", "player before")
	var login: BackendLoginResult = await session.login_anonymous("Ada").wait()
	if not succeeded(login, "login"):
		return
	check_eq(login.failed(), false, "failed")
	check_eq(login.error, null, "error")
	check_eq(login.created, true, "created")
	check_eq(login.display_name, "Ada", "display name")
	check(not login.player_id.is_empty(), "no player id")
	check_eq(session.is_logged_in(), true, "logged in")
	check_eq(session.player_id, login.player_id, "player of the node")
	check_eq(session.display_name, "Ada", "display name of the node")
	check_eq(logins, [[login.player_id]], "emissions of logged_in")


func test_a_guest_without_a_name_gets_one() -> void:
	var session := new_session()
	var login: BackendLoginResult = await session.login_anonymous().wait()
	succeeded(login, "login")
	check(not login.display_name.is_empty(), "no display name")


func test_a_device_is_the_same_player_twice() -> void:
	var device := unique("device-with-a-long-id")
	var first: BackendLoginResult = await new_session().login_with_device(device, "Bo").wait()
	var second: BackendLoginResult = await new_session().login_with_device(device).wait()
	var other: BackendLoginResult = await (
		new_session().login_with_device(unique("device-with-a-long-id")).wait()
	)
	if (
		succeeded(first, "first")
		and succeeded(second, "second")
		and succeeded(other, "other device")
	):
		check_eq(first.created, true, "created first")
		check_eq(second.created, false, "created second")
		check_eq(second.player_id, first.player_id, "player")
		check_eq(second.display_name, "Bo", "display name")
		check(other.player_id != first.player_id, "another device is the same player")


func test_register_then_log_in_with_the_password() -> void:
	var email := unique("ada") + "@example.org"
	var made: BackendLoginResult = await new_session().register(email, PASSWORD, "Ada").wait()
	var back: BackendLoginResult = await (
		new_session().login_with_password(email.to_upper(), PASSWORD).wait()
	)
	if succeeded(made, "register") and succeeded(back, "login"):
		check_eq(made.created, true, "created")
		check_eq(back.created, false, "created at login")
		check_eq(back.player_id, made.player_id, "player")


func test_a_wrong_password_is_refused() -> void:
	var email := unique("ada") + "@example.org"
	succeeded(await new_session().register(email, PASSWORD, "Ada").wait(), "register")
	var session := new_session()
	var login: BackendLoginResult = await (
		session.login_with_password(email, "wrong horse battery").wait()
	)
	failed_with(login, "invalid_credentials", "wrong password")
	check_eq(login.error.http_status, 401, "http status")
	check_eq(login.error.retryable, false, "retryable")
	check(not login.error.request_id.is_empty(), "no request id")
	check_eq(session.is_logged_in(), false, "logged in")
	var unknown: BackendLoginResult = await (
		session.login_with_password("no-" + email, PASSWORD).wait()
	)
	failed_with(unknown, "invalid_credentials", "unknown account")
	check_eq(unknown.error.message, login.error.message, "message tells accounts apart")


func test_an_email_address_registers_once() -> void:
	var email := unique("ada") + "@example.org"
	succeeded(await new_session().register(email, PASSWORD, "Ada").wait(), "register")
	var again: BackendLoginResult = await (
		new_session().register(email, PASSWORD + "!", "Eve").wait()
	)
	failed_with(again, "account_exists", "register again")
	check_eq(again.error.http_status, 409, "http status")


func test_bad_input_names_the_field() -> void:
	var session := new_session()
	var email := unique("ada") + "@example.org"
	failed_with(
		await session.login_anonymous("x".repeat(33)).wait(),
		"invalid_field",
		"long name",
		"display_name"
	)
	failed_with(
		await session.login_anonymous("   ").wait(), "invalid_field", "blank name", "display_name"
	)
	failed_with(
		await session.login_anonymous("a\nb").wait(),
		"invalid_field",
		"newline in name",
		"display_name"
	)
	failed_with(
		await session.login_with_device("short").wait(),
		"invalid_field",
		"short device",
		"device_id"
	)
	failed_with(
		await session.login_with_device("d".repeat(129)).wait(),
		"invalid_field",
		"long device",
		"device_id"
	)
	failed_with(
		await session.login_with_password("ada", PASSWORD).wait(),
		"invalid_field",
		"no address",
		"email"
	)
	failed_with(
		await session.login_with_password(email, "short").wait(),
		"invalid_field",
		"short password",
		"password"
	)
	failed_with(
		await session.register(email, "x".repeat(129), "Ada").wait(),
		"invalid_field",
		"long password",
		"password"
	)
	failed_with(
		await session.register(email, PASSWORD, "").wait(),
		"invalid_field",
		"no name",
		"display_name"
	)
	check_eq(session.is_logged_in(), false, "logged in")


func test_a_second_node_restores_the_session() -> void:
	var session := await new_player("Stored")
	var later := BackendSession.new()
	later.profile = session.profile
	add_child(later)
	var logins := record(later.logged_in)
	var restored: BackendLoginResult = await later.restore().wait()
	if succeeded(restored, "restore"):
		check_eq(restored.player_id, session.player_id, "player")
		check_eq(restored.created, false, "created")
		check_eq(later.is_logged_in(), true, "logged in")
		check_eq(logins, [[session.player_id]], "emissions of logged_in")
		succeeded(await later.read_documents().wait(), "call with the restored session")


func test_auto_restore_logs_in_by_itself() -> void:
	var session := await new_player("Automatic")
	var later := BackendSession.new()
	later.profile = session.profile
	later.auto_restore = true
	var logins := record(later.logged_in)
	add_child(later)
	await until(func() -> bool: return logins.size() == 1, WAIT_TIMEOUT, "logged_in")
	check_eq(later.player_id, session.player_id, "player")


func test_nothing_to_restore_is_an_error() -> void:
	var session := new_session()
	failed_with(await session.restore().wait(), "not_logged_in", "restore")


func test_profiles_are_kept_apart() -> void:
	var first := await new_player("First")
	var second := await new_player("Second")
	check(first.player_id != second.player_id, "two profiles are one player")
	var other := new_session()
	check(
		(await other.restore().wait() as BackendLoginResult).failed(),
		"a third profile restored somebody"
	)


func test_logout_forgets_the_session() -> void:
	var session := await new_player("Leaver")
	var logouts := record(session.logged_out)
	succeeded(await session.logout().wait(), "logout")
	check_eq(session.is_logged_in(), false, "logged in")
	check_eq(session.player_id, "", "player")
	check_eq(logouts.size(), 1, "emissions of logged_out")
	failed_with(await session.read_documents().wait(), "not_logged_in", "call after logout")
	failed_with(await session.refresh().wait(), "not_logged_in", "refresh after logout")
	var later := BackendSession.new()
	later.profile = session.profile
	add_child(later)
	failed_with(await later.restore().wait(), "not_logged_in", "restore after logout")


func test_refresh_keeps_the_player() -> void:
	var session := await new_player("Fresh")
	var player_id := session.player_id
	var refreshes := record(session.refreshed)
	succeeded(await session.refresh().wait(), "refresh")
	check_eq(refreshes.size(), 1, "emissions of refreshed")
	check_eq(session.player_id, player_id, "player")
	succeeded(await session.read_documents().wait(), "call after refresh")


func test_a_new_player_has_no_documents() -> void:
	var session := await new_player("Empty")
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	if succeeded(documents, "documents"):
		check_eq(documents.player_id, session.player_id, "player")
		check_eq(documents.keys(), PackedStringArray(), "keys")
		check_eq(documents.has_document("progress"), false, "has progress")
		check_eq(documents.get_document("progress"), {}, "progress")
		check_eq(documents.get_version("progress"), 0, "version")


func test_an_outage_keeps_the_session() -> void:
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 2.0
	var session := await new_player("Waiting", config)
	var expiries := record(session.expired)
	proxy.cut_line()
	var documents: BackendPlayerDocuments = await session.read_documents().wait()
	check(documents.failed(), "documents came through a cut line")
	check_eq(documents.error.retryable, true, "retryable")
	check_eq(documents.error.http_status, 0, "http status")
	check_eq((await session.refresh().wait() as Object).call(&"failed"), true, "refresh failed")
	check_eq(session.is_logged_in(), true, "logged in during the outage")
	check_eq(expiries.size(), 0, "emissions of expired")
	proxy.connect_line()
	succeeded(await session.read_documents().wait(), "documents after the outage")
	succeeded(await session.refresh().wait(), "refresh after the outage")


func test_an_outage_at_login_is_retryable() -> void:
	var proxy := new_proxy()
	proxy.cut_line()
	var config := config_for(proxy.url())
	config.timeout_seconds = 2.0
	var session := new_session(config)
	var login: BackendLoginResult = await session.login_anonymous("Later").wait()
	check(login.failed() and login.error.retryable, "not a retryable error")
	proxy.connect_line()
	succeeded(await session.login_anonymous("Later").wait(), "login after the outage")
