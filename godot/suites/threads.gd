## What becomes of a script that uses the addon from a Thread.
extends "res://backend_suite.gd"


func test_a_call_from_a_thread_is_refused_with_what_to_do() -> void:
	var session := new_session()
	expect_error("used from a Thread. Use the addon's classes from the main thread")
	# The engine adds where in the script it was.
	expect_error("Invalid call")
	var returned: Variant = await in_a_thread(func() -> Variant: return session.login_anonymous())
	check_eq(returned, null, "what the refused call returned")
	check_eq(session.player_id, "", "player")
	succeeded(
		await session.login_anonymous("Main").completed, "login from the main thread afterwards"
	)


func test_a_property_read_in_a_thread_is_refused_too() -> void:
	var session := new_session()
	expect_error("used from a Thread. Use the addon's classes from the main thread")
	await in_a_thread(func() -> Variant: return session.player_id)


func in_a_thread(work: Callable) -> Variant:
	var thread := Thread.new()
	thread.start(work)
	await until(func() -> bool: return not thread.is_alive(), WAIT_TIMEOUT, "thread")
	return thread.wait_to_finish()
