## What every asynchronous method promises about the request it returns.
extends "res://backend_suite.gd"


func test_a_result_is_never_there_at_once() -> void:
	var session := new_session()
	var request := session.login_anonymous("Early")
	var seen := record(request.completed)
	check_eq(request.is_done(), false, "done before the frame is over")
	check_eq(request.result, null, "result before the frame is over")
	succeeded(await request.completed, "login")
	check_eq(request.is_done(), true, "done")
	check_eq(seen.size(), 1, "emissions of completed")


func test_an_error_is_not_there_at_once_either() -> void:
	var session := new_session()
	var request := session.login_with_device("short")
	check_eq(request.is_done(), false, "done before the frame is over")
	failed_with(await request.completed, "invalid_field", "login with a short device id")


func test_a_late_await_gets_the_result() -> void:
	var session := new_session()
	var request := session.login_anonymous("Late")
	await until(request.is_done, WAIT_TIMEOUT, "login")
	await frames(5)
	var login: BackendLoginResult = await request.wait()
	succeeded(login, "login")
	check_eq(login.display_name, "Late", "display name")


func test_two_awaits_get_the_same_result() -> void:
	var session := new_session()
	var request := session.login_anonymous("Twice")
	var first: BackendLoginResult = await request.wait()
	var second: BackendLoginResult = await request.wait()
	succeeded(first, "login")
	check(first == second, "the second await gave another object")
	check(request.result == first, "the property gives another object")


func test_a_connected_handler_may_use_the_request() -> void:
	var session := new_session()
	var request := session.login_anonymous("Handler")
	var seen: Array[Variant] = []
	request.completed.connect(
		func(result: Variant) -> void:
			seen.append(result)
			seen.append(request.is_done())
			seen.append(request.wait())
			request.cancel()
	)
	await until(func() -> bool: return seen.size() == 3, WAIT_TIMEOUT, "handler")
	succeeded(seen[0] as BackendLoginResult, "login")
	check_eq(seen[1], true, "done inside the handler")
	check(seen[2] == seen[0], "wait() inside the handler gave something else")
	# The lambda holds the request, and the request its connections.
	for connection: Dictionary in request.completed.get_connections():
		request.completed.disconnect(connection["callable"] as Callable)


func test_cancel_completes_with_cancelled() -> void:
	var backend := new_hostile_backend()
	backend.stay_silent()
	var session := new_session(config_for(backend.url()))
	var request := session.login_anonymous("Cancelled")
	await until(
		func() -> bool: return not backend.requests.is_empty(), WAIT_TIMEOUT, "request to arrive"
	)
	request.cancel()
	failed_with(await request.wait(), "cancelled", "login")
	check_eq(session.is_logged_in(), false, "logged in")


func test_cancel_at_once_completes_with_cancelled() -> void:
	var session := new_session()
	var logins := record(session.logged_in)
	var request := session.login_anonymous("Cancelled")
	var seen := record(request.completed)
	request.cancel()
	request.cancel()
	failed_with(await request.wait(), "cancelled", "login")
	await frames(10)
	check_eq(seen.size(), 1, "emissions of completed")
	check_eq(logins.size(), 0, "emissions of logged_in")


func test_cancel_after_the_end_changes_nothing() -> void:
	var session := new_session()
	var request := session.login_anonymous("Done")
	succeeded(await request.wait(), "login")
	request.cancel()
	succeeded(await request.wait(), "login after cancel")


func test_a_node_freed_in_mid_request_cancels_it() -> void:
	var backend := new_hostile_backend()
	backend.stay_silent()
	var session := new_session(config_for(backend.url()))
	var request := session.login_anonymous("Freed")
	await until(
		func() -> bool: return not backend.requests.is_empty(), WAIT_TIMEOUT, "request to arrive"
	)
	session.free()
	failed_with(await request.wait(), "cancelled", "login")


func test_a_node_that_leaves_the_tree_cancels_its_requests() -> void:
	var backend := new_hostile_backend()
	backend.stay_silent()
	var session := new_session(config_for(backend.url()))
	var first := session.login_anonymous("Leaving")
	var second := session.read_documents()
	remove_child(session)
	failed_with(await first.wait(), "cancelled", "login")
	check_eq((await second.wait() as BackendPlayerDocuments).failed(), true, "documents failed")
	session.free()


func test_a_request_nobody_holds_is_carried_out() -> void:
	var session := new_session()
	var logins := record(session.logged_in)
	session.login_anonymous("Dropped")
	await until(func() -> bool: return logins.size() == 1, WAIT_TIMEOUT, "logged_in")
	check_eq(session.is_logged_in(), true, "logged in")


func test_many_in_flight_complete_in_any_order() -> void:
	var session := await new_player("Many")
	var rooms := new_rooms(session)
	var requests: Array[BackendRequest] = []
	for _index in 100:
		requests.append(rooms.list_rooms())
	requests.reverse()
	for index in requests.size():
		var page: BackendRoomPage = await requests[index].wait()
		if not succeeded(page, "list %d" % index):
			return


func test_results_come_while_the_tree_is_paused() -> void:
	var session := new_session()
	get_tree().paused = true
	var login: BackendLoginResult = await session.login_anonymous("Paused").wait()
	get_tree().paused = false
	succeeded(login, "login")
