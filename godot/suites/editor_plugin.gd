## The parts of the editor plugin that need no editor: processes, their logs, ports, command lines.
extends "res://suite.gd"

const ChildProcess := preload("res://addons/backend_client/editor/child_process.gd")
const DebugServer := preload("res://addons/backend_client/editor/debug_server.gd")
const FreePort := preload("res://addons/backend_client/editor/free_port.gd")
const GameProcess := preload("res://addons/backend_client/editor/game_process.gd")
const LogLines := preload("res://addons/backend_client/editor/log_lines.gd")
const StateView := preload("res://addons/backend_client/editor/state_view.gd")

const WAIT_TIMEOUT := 15.0


func test_output_environment_and_exit_code_of_a_process() -> void:
	OS.set_environment("PANEL_TEST", "before")
	var process := ChildProcess.new()
	var lines := record(process.line_printed)
	var script := "printf 'one\\ntwo\\033[31m!\\033[0m\\n'; echo $PANEL_TEST >&2; printf last; exit 3"
	check_eq(process.start("/bin/sh", ["-c", script], {"PANEL_TEST": "inside"}), OK)
	check_eq(OS.get_environment("PANEL_TEST"), "before", "the editor's own variable")
	OS.unset_environment("PANEL_TEST")
	await _until_ended(process)
	check_eq(process.exit_code, 3)
	var printed := lines.filter(func(line: Array) -> bool: return not line[1])
	check_eq(printed, [["one", false], ["two!", false], ["last", false]])
	check(lines.has(["inside", true]), "no line of standard error: %s" % [lines])


func test_a_process_ends_by_sigterm_or_is_killed() -> void:
	var script := "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"
	for is_killed: bool in [false, true]:
		var process := ChildProcess.new()
		var lines := record(process.line_printed)
		check_eq(process.start("/bin/sh", ["-c", script], {}), OK)
		await _until_printed(process, lines, "ready")
		if is_killed:
			process.kill()
			check(process.was_killed and not process.is_running, "it still runs")
			check_eq(process.exit_code, -1)
		else:
			process.terminate()
			check(process.is_ending and process.is_running, "it is not ending")
			await _until_ended(process)
			check_eq(process.exit_code, 7)


func test_lines_without_end_and_output_without_lines_stay_bounded() -> void:
	var process := ChildProcess.new()
	var lines := record(process.line_printed)
	process.start("/bin/sh", ["-c", "head -c 300000 /dev/zero | tr '\\0' x"], {})
	await _until_ended(process)
	check(lines.size() > 1, "300,000 bytes were one line")
	for line in lines:
		check(
			str(line[0]).length() <= ChildProcess.MAX_LINE, "a line has %d" % str(line[0]).length()
		)


func test_a_program_that_is_missing_has_ended() -> void:
	var process := ChildProcess.new()
	if process.start("/no/such/program", [], {}) == OK:
		await _until_ended(process)
		check(process.exit_code != 0, "exit code 0")
	else:
		check(not process.is_running, "it runs")


func test_many_lines_are_read_in_parts_and_all_arrive() -> void:
	var process := ChildProcess.new()
	var lines := record(process.line_printed)
	process.start("/bin/sh", ["-c", "seq 20000; seq 20001 20002 >&2"], {})
	while process.is_running:
		var before := lines.size()
		process.poll()
		check(
			lines.size() - before <= 2 * ChildProcess.MAX_LINES + 2,
			"%d lines in one call" % (lines.size() - before)
		)
		await get_tree().process_frame
	check_eq(lines.size(), 20_002, "lines")
	check_eq(lines.filter(func(line: Array) -> bool: return not line[1])[-1], ["20000", false])


func test_no_variable_for_a_backend_is_inherited() -> void:
	OS.set_environment("BACKEND_WORLD_STORAGE", "s3://production")
	var process := ChildProcess.new()
	var lines := record(process.line_printed)
	var cleared := ChildProcess.without_backend_variables()
	check(not cleared.has("BACKEND_LOG"), "the level of the log")
	process.start("/bin/sh", ["-c", "echo =$BACKEND_WORLD_STORAGE="], cleared)
	await _until_ended(process)
	check_eq(lines, [["==", false]])
	check_eq(OS.get_environment("BACKEND_WORLD_STORAGE"), "s3://production", "the editor's own")
	OS.unset_environment("BACKEND_WORLD_STORAGE")


func test_command_lines() -> void:
	check_eq(
		GameProcess.split_words('--a  "two words" --b="c d" ""'),
		PackedStringArray(["--a", "two words", "--b=c d", ""])
	)
	var project := ProjectSettings.globalize_path("res://")
	var server := GameProcess.new()
	server.role = GameProcess.Role.SERVER
	server.name = "server-2"
	server.port = 7778
	check_eq(
		server.command_line("--server --port={port}"),
		PackedStringArray(
			[
				"--path",
				project,
				"--headless",
				"--",
				"--backend-profile=server-2",
				"--server",
				"--port=7778",
			]
		)
	)
	var client := GameProcess.new()
	client.role = GameProcess.Role.CLIENT
	client.name = "client-1"
	check_eq(
		client.command_line("--resolution 640x360 -- --name={name}"),
		PackedStringArray(
			[
				"--path",
				project,
				"--resolution",
				"640x360",
				"--",
				"--backend-profile=client-1",
				"--name=client-1",
			]
		)
	)


func test_the_log_keeps_the_last_lines_and_filters() -> void:
	var log_lines := LogLines.new()
	for number in LogLines.MAX_LINES * 2 + 10:
		log_lines.add("server-1" if number % 2 == 0 else "client-1", "line %d" % number, false)
	var kept := log_lines.end() - log_lines.first
	check(kept <= LogLines.MAX_LINES + LogLines.REMOVED_AT_ONCE, "%d lines are kept" % kept)
	check_eq(log_lines.end(), LogLines.MAX_LINES * 2 + 10)
	check_eq(log_lines.get_line(log_lines.end() - 1).text, "line 20009")
	var begin := log_lines.find_last(3, "client-1", "LINE 2000")
	check_eq(log_lines.get_line(begin).text, "line 20005")
	log_lines.clear()
	check_eq(log_lines.end(), log_lines.first)


func test_a_port_that_is_used_is_not_given() -> void:
	var port := FreePort.from(24_000)
	var server := TCPServer.new()
	check_eq(server.listen(port, "127.0.0.1"), OK)
	check(not FreePort.is_free(port), "%d is in use" % port)
	var next := FreePort.from(port)
	check(next > port, "%d for %d" % [next, port])
	check(FreePort.from(port, [next]) > next, "a port that is taken was given")
	server.stop()


func test_the_debug_server_reads_states_and_lets_nobody_wait() -> void:
	var server := DebugServer.new()
	var reports := record(server.reported)
	var port := server.url().get_slice(":", 2).to_int()
	var game := await _debugged(server, port)
	game.put_var(["output", 1, [["a line"], [0]]])
	game.put_var(["backend_client:state", 1, [{"process_id": 7}]])
	game.put_var(["debug_enter", 5, [true, "Breakpoint", true, 5]])
	await until(
		func() -> bool:
			server.poll()
			(game.stream_peer as StreamPeerTCP).poll()
			return game.get_available_packet_count() > 0,
		WAIT_TIMEOUT,
		"a reply"
	)
	check_eq(game.get_var(), ["continue", 5, []])
	check_eq(reports, [[{"process_id": 7}]])
	# What is no message ends the connection, and no other.
	var other := await _debugged(server, port)
	other.put_var("nonsense")
	await until(
		func() -> bool:
			server.poll()
			(other.stream_peer as StreamPeerTCP).poll()
			var status := (other.stream_peer as StreamPeerTCP).get_status()
			return status != StreamPeerTCP.STATUS_CONNECTED,
		WAIT_TIMEOUT,
		"the end of the connection"
	)
	check_eq((game.stream_peer as StreamPeerTCP).get_status(), StreamPeerTCP.STATUS_CONNECTED)
	server.close()


func test_the_state_in_words() -> void:
	var state := {
		"sessions":
		[
			{
				"is_logged_in": true,
				"is_offline": true,
				"display_name": "Ada",
				"player_id": "p1",
				"profile": "client-1"
			}
		],
		"registrations":
		[
			{
				"server_id": "s1",
				"name": "Pond",
				"is_draining": false,
				"players": 1,
				"max_players": 4,
				"heartbeats": 3,
				"heartbeat_age_seconds": 2.4
			}
		],
		"player_stores":
		[
			{
				"players": 1,
				"unsaved": 2,
				"journalled": 1,
				"unsaved_bytes": 64,
				"oldest_seconds": 300.0,
				"last_flush_ms": 12.4
			},
			{},
		],
		"errors": [{"code": "network", "message": "No reply.", "age_seconds": 1.0, "count": 3}],
	}
	check_eq(
		StateView.rows_of(state),
		[
			["Session", "Ada (p1), offline, profile client-1"],
			["Room", "Pond: registered, 1 of 4 players"],
			["Heartbeats", "3 answered, the last one 2 s ago"],
			["Players held", "1"],
			["Unsaved", "2 documents (64 B) for 5 min; 1 in the journal"],
			["Last save took", "12 ms"],
			["Error", "network: No reply. (1 s ago, 3 times)", true],
		]
	)


## A connection as a game has it.
func _debugged(server: DebugServer, port: int) -> PacketPeerStream:
	var stream := StreamPeerTCP.new()
	check_eq(stream.connect_to_host("127.0.0.1", port), OK)
	await until(
		func() -> bool:
			server.poll()
			stream.poll()
			return stream.get_status() == StreamPeerTCP.STATUS_CONNECTED,
		WAIT_TIMEOUT,
		"a connection"
	)
	var peer := PacketPeerStream.new()
	peer.stream_peer = stream
	return peer


func _until_ended(process: ChildProcess) -> void:
	await until(
		func() -> bool:
			process.poll()
			return not process.is_running,
		WAIT_TIMEOUT,
		"the end of the process"
	)


func _until_printed(process: ChildProcess, lines: Array[Array], text: String) -> void:
	await until(
		func() -> bool:
			process.poll()
			return lines.any(func(line: Array) -> bool: return line[0] == text),
		WAIT_TIMEOUT,
		text
	)
