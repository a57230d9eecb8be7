## Late revocation: players whose tokens ended are sent away, and do not come back with them.
extends "res://peer_auth_test_base.gd"

const AdminClient := preload("res://admin_client.gd")


func test_a_banned_player_is_sent_away_and_the_others_stay() -> void:
	await open_server()
	var ada := await new_player("Ada")
	var bo := await new_player("Bo")
	var first := await join_as(ada)
	var second := await join_as(bo)
	var peer_id := first.api.get_unique_id()
	var left := record(_server.peer_auth.peer_left)
	var refusals := record(_server.peer_auth.peer_refused)
	var told := record(first.peer_auth.refused)
	var bans := record(ada.banned)
	check_eq(await new_admin_client().ban(ada.player_id), 204, "ban")
	beat()
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "refused")
	await until(func() -> bool: return not first.is_online(), WAIT_TIMEOUT, "end of the connection")
	if not told.is_empty():
		check_eq((told[0][0] as BackendError).code, "banned", "reason on the client")
	check_eq(left.size(), 1, "emissions of peer_left")
	check_eq(refusals.size(), 1, "emissions of peer_refused")
	if not (left.is_empty() or refusals.is_empty()):
		check_eq((left[0][1] as BackendPlayer).player_id, ada.player_id, "player that left")
		check_eq(refusals[0][0], peer_id, "peer that was refused")
		check_eq((refusals[0][1] as BackendError).code, "banned", "reason on the server")
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray([bo.player_id]), "players")
	check_eq(second.is_online(), true, "the other one is online")
	# The player hears it from the backend, too.
	failed_with(await ada.read_documents().wait(), "banned", "call")
	check_eq(bans.size(), 1, "emissions of banned")
	check_eq(ada.is_logged_in(), false, "logged in")


func test_whose_sessions_ended_logs_in_again_and_is_back() -> void:
	await open_server()
	var device := unique("device-with-a-long-id")
	var ada := new_session()
	succeeded(await ada.login_with_device(device, "Ada").wait(), "login")
	var client := await join_as(ada)
	var told := record(client.peer_auth.refused)
	var elsewhere := new_session()
	succeeded(await elsewhere.login_with_device(device).wait(), "login elsewhere")
	succeeded(await elsewhere.logout_everywhere().wait(), "logout everywhere")
	beat()
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "refused")
	if not told.is_empty():
		check_eq((told[0][0] as BackendError).code, "session_ended", "reason on the client")
	await until(
		func() -> bool: return not client.is_online(), WAIT_TIMEOUT, "end of the connection"
	)
	succeeded(await ada.login_with_device(device).wait(), "login again")
	await join_as(ada)
	# Hearing of it again does not concern the new session.
	beat()
	await within(WAIT_TIMEOUT, get_tree().create_timer(3.0).timeout)
	check_eq(_server.peer_auth.get_player_ids(), PackedStringArray([ada.player_id]), "players")


func test_a_token_that_ended_opens_no_door_even_if_the_server_asks_nobody() -> void:
	await open_server()
	_validator.policy = BackendTokenValidator.LOCAL_ONLY
	_server.peer_auth.accept_access_tokens = true
	var ada := await new_player("Ada")
	var bo := await new_player("Bo")
	var ticket := await new_ticket(ada)
	var waiting := await join_as(bo)
	# One of them is in, so that it shows when the server has heard.
	var told := record(waiting.peer_auth.refused)
	var admin := new_admin_client()
	check_eq(await admin.ban(ada.player_id), 204, "ban")
	check_eq(await admin.end_sessions(bo.player_id), 204, "end of sessions")
	beat()
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "refused")
	await expect_refusal(new_client(ticket), "banned")
	# The access token is young, so the client shows it without asking anybody.
	var client := new_client("")
	client.peer_auth.session = ada
	client.peer_auth.send_access_token = true
	await expect_refusal(client, "banned")


func test_a_ban_that_ended_lets_the_player_back_in() -> void:
	await open_server()
	var device := unique("device-with-a-long-id")
	var ada := new_session()
	succeeded(await ada.login_with_device(device, "Ada").wait(), "login")
	var client := await join_as(ada)
	var told := record(client.peer_auth.refused)
	var admin := new_admin_client()
	check_eq(await admin.ban(ada.player_id, 3600), 204, "ban")
	failed_with(await new_session().login_with_device(device).wait(), "banned", "login")
	check_eq(await admin.unban(ada.player_id), 204, "unban")
	beat()
	# Those who were in when it happened are out all the same: their tokens were of before.
	await until(func() -> bool: return not told.is_empty(), WAIT_TIMEOUT, "refused")
	await until(
		func() -> bool: return not client.is_online(), WAIT_TIMEOUT, "end of the connection"
	)
	succeeded(await ada.login_with_device(device).wait(), "login again")
	await join_as(ada)


func new_admin_client() -> AdminClient:
	var admin := AdminClient.new()
	add_child(admin)
	return admin
