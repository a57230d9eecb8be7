## Searching a match, from the first request to the room; and searching players for a running one.
extends "res://peer_auth_test_base.gd"

const RELAYED := 30.0


func test_two_players_find_a_match_and_join_its_room() -> void:
	await open_server()
	_registration.mode = "duel"
	var matchmakers := [await new_matchmaker("duel"), await new_matchmaker("duel")]
	var statuses := record((matchmakers[0] as BackendMatchmaker).status_changed)
	var ready := record((matchmakers[0] as BackendMatchmaker).match_ready)
	var matches := await found_by(matchmakers)
	if not check_eq(matches.size(), 2, "matches"):
		return
	var teams := []
	for index: int in 2:
		var found: BackendMatch = matches[index]
		check_eq(found.match_id, (matches[0] as BackendMatch).match_id, "match")
		check_eq(found.room_id, _registration.server_id, "room")
		check_eq(found.player_ids.size(), 2, "players")
		check_eq(found.bot_ids, PackedStringArray(), "bots")
		var player_id: String = (matchmakers[index] as BackendMatchmaker).session.player_id
		teams.append(found.get_team(player_id))
		await join_with(found.ticket.ticket)
	teams.sort()
	check_eq(teams, ["side_1", "side_2"], "teams")
	check_eq((matches[0] as BackendMatch).get_team("nobody"), "", "team of a stranger")
	var seen := statuses.map(func(status: Array) -> int: return status[0])
	check_eq(seen[0], BackendMatchmaker.STATUS_SEARCHING, "first status")
	check_eq(seen[-1], BackendMatchmaker.STATUS_READY, "last status")
	check_eq(ready.size(), 1, "emissions of match_ready")
	var node: BackendMatchmaker = matchmakers[0]
	check_eq(node.status, BackendMatchmaker.STATUS_READY, "status")
	check(not node.is_searching(), "still searching")


func test_a_declined_match_ends_for_who_declined_and_others_search_on() -> void:
	var server := await new_room("asked")
	var ada := await new_matchmaker("asked")
	var bea := await new_matchmaker("asked")
	failed_with(await ada.accept().wait(), "no_match", "nothing to accept")
	var proposals := record(ada.match_proposed)
	var of_ada := ada.find_match()
	var of_bea := bea.find_match()
	await until_status(ada, BackendMatchmaker.STATUS_PROPOSED)
	await until_status(bea, BackendMatchmaker.STATUS_PROPOSED)
	check_eq(proposals.size(), 1, "proposals")
	check_eq((proposals[0][0] as BackendMatch).player_ids.size(), 2, "players of the proposal")
	check_eq((proposals[0][0] as BackendMatch).ticket, null, "ticket of a proposal")
	check(ada.answer_seconds > 0.0 and ada.answer_seconds <= 30.0, "%f s" % ada.answer_seconds)
	succeeded(await ada.accept().wait(), "accept")
	check_eq(ada.status, BackendMatchmaker.STATUS_ACCEPTED, "accepted")
	await until(
		func() -> bool: return bea.current_match != null and bea.current_match.accepted == 1,
		WAIT_TIMEOUT,
		"Bea sees that one has accepted"
	)
	succeeded(await bea.decline().wait(), "decline")
	failed_with(await of_bea.wait(), "match_not_accepted", "who declined")
	check_eq(bea.status, BackendMatchmaker.STATUS_FAILED, "status of who declined")
	await until_status(ada, BackendMatchmaker.STATUS_SEARCHING)
	check(not of_ada.is_done(), "who accepted searches on")
	of_bea = bea.find_match()
	for node: BackendMatchmaker in [ada, bea]:
		await until_status(node, BackendMatchmaker.STATUS_PROPOSED)
		succeeded(await node.accept().wait(), "accept")
	check_eq(proposals.size(), 2, "proposals")
	for request: BackendRequest in [of_ada, of_bea]:
		var found: BackendMatch = await request.wait()
		if succeeded(found, "the second match"):
			check_eq(found.room_id, server.server_id, "room")


func test_a_search_is_cancelled_by_call_by_request_and_with_its_node() -> void:
	var node := await new_matchmaker("duel")
	var failures := record(node.search_failed)
	var request := node.find_match(skilled(5000))
	await until(func() -> bool: return not node.ticket_id.is_empty(), WAIT_TIMEOUT, "a ticket")
	failed_with(await node.find_match().wait(), "already_searching", "a second search")
	succeeded(await node.cancel().wait(), "cancel")
	failed_with(await request.wait(), "cancelled", "the search")
	check_eq(failures.size(), 1, "emissions of search_failed")
	succeeded(await node.cancel().wait(), "cancel without a search")
	request = node.find_match(skilled(5000))
	await until(func() -> bool: return not node.ticket_id.is_empty(), WAIT_TIMEOUT, "a ticket")
	await expect_cancelled_at_backend(node, func() -> void: request.cancel())
	failed_with(await request.wait(), "cancelled", "the cancelled request")
	request = node.find_match(skilled(5000))
	await until(func() -> bool: return not node.ticket_id.is_empty(), WAIT_TIMEOUT, "a ticket")
	await expect_cancelled_at_backend(node, func() -> void: node.free())
	failed_with(await request.wait(), "cancelled", "the search of a freed node")


func test_a_search_has_a_time_out_and_a_match_may_get_no_room() -> void:
	var hasty := await new_matchmaker("hasty")
	failed_with(await hasty.find_match().wait(), "no_match", "alone")
	var roomless := [await new_matchmaker("roomless"), await new_matchmaker("roomless")]
	var requests := roomless.map(
		func(node: BackendMatchmaker) -> BackendRequest: return node.find_match()
	)
	await until_status(roomless[0], BackendMatchmaker.STATUS_PLACING)
	for request: BackendRequest in requests:
		failed_with(await request.wait(), "no_room", "no room")


func test_a_developer_alone_plays_with_bots() -> void:
	var server := await new_room("alone")
	var node := await new_matchmaker("alone")
	var found: BackendMatch = await node.find_match().wait()
	if succeeded(found, "alone"):
		check_eq(found.room_id, server.server_id, "room")
		check_eq(found.player_ids.size(), 2, "players")
		check_eq(found.bot_ids.size(), 1, "bots")
		check(found.get_team(found.bot_ids[0]) != found.get_team(node.session.player_id), "teams")


func test_a_party_waits_for_its_players_and_plays_in_one_team() -> void:
	await new_room("duel")
	var leader := await new_matchmaker("duel")
	var options := skilled(300)
	options.party_size = 2
	var requests: Array[BackendRequest] = [leader.find_match(options)]
	await until_status(leader, BackendMatchmaker.STATUS_PARTY)
	check_eq(leader.party_members, 1, "members")
	var changes := record(leader.players_changed)
	var member := await new_matchmaker("duel")
	requests.append(member.join_party(leader.ticket_id, skilled(310)))
	await until(func() -> bool: return leader.party_members == 2, WAIT_TIMEOUT, "two members")
	check(not changes.is_empty(), "players_changed")
	var late := await new_matchmaker("duel")
	failed_with(
		await late.join_party(leader.ticket_id).wait(), "matchmaking_ticket_closed", "a third"
	)
	for _other: int in 2:
		requests.append((await new_matchmaker("duel")).find_match(skilled(305)))
	var teams := []
	for request: BackendRequest in requests:
		var found: BackendMatch = await request.wait()
		if succeeded(found, "a match of four"):
			check_eq(found.player_ids.size(), 4, "players")
			for node: BackendMatchmaker in [leader, member]:
				teams.append(found.get_team(node.session.player_id))
	check(teams.all(func(team: String) -> bool: return team == teams[0]), "teams: %s" % [teams])


func test_a_search_survives_a_lost_connection() -> void:
	await new_room("duel")
	var proxy := new_proxy()
	var ada := await new_matchmaker("duel", config_for(proxy.url()))
	var changes := record(ada.connection_changed)
	var of_ada := ada.find_match(skilled(700))
	await until(func() -> bool: return not ada.ticket_id.is_empty(), WAIT_TIMEOUT, "a ticket")
	proxy.cut_line()
	await until(func() -> bool: return not ada.connected, RELAYED, "the outage is seen")
	check(ada.is_searching() and not of_ada.is_done(), "the search goes on")
	# The match is formed while the player is away.
	var bea := await new_matchmaker("duel")
	succeeded(await bea.find_match(skilled(700)).wait(), "the other player")
	proxy.connect_line()
	var found: BackendMatch = await of_ada.wait()
	succeeded(found, "after the outage")
	check_eq(changes, [[false], [true]], "connection_changed")


func test_a_search_that_never_reached_the_backend_fails_and_leaves_nothing() -> void:
	var proxy := new_proxy()
	var node := await new_matchmaker("duel", config_for(proxy.url()))
	proxy.cut_line()
	var request := node.find_match(skilled(900))
	await until(func() -> bool: return not node.connected, RELAYED, "the outage is seen")
	request.cancel()
	failed_with(await request.wait(), "cancelled", "the search")
	check(not node.is_searching(), "still searching")


func test_a_running_game_gets_a_player() -> void:
	var server := await new_room("growing")
	var matchmakers := [await new_matchmaker("growing"), await new_matchmaker("growing")]
	var matches := await found_by(matchmakers)
	if not check_eq(matches.size(), 2, "matches"):
		return
	var host := BackendMatchmaker.new()
	host.registration = server
	host.matchmaker = "growing"
	add_child(host)
	var placed: BackendPlacedMatches = await host.list_matches().wait()
	succeeded(placed, "list_matches")
	check_eq(placed.match_ids, PackedStringArray([(matches[0] as BackendMatch).match_id]), "ids")
	var ids: PackedStringArray = (matches[0] as BackendMatch).player_ids
	for id: String in ids:
		check_eq(placed.get_team(id), "everybody", "team")
	var teams := placed.get_teams(placed.match_ids[0])
	var listed: PackedStringArray = teams.get("everybody", PackedStringArray())
	listed.sort()
	ids.sort()
	check_eq(listed, ids, "teams")
	failed_with(
		await host.find_players(PackedStringArray(["nobody"])).wait(),
		"invalid_field",
		"a player whom the backend does not know",
		"player_ids"
	)
	var first := host.find_players(ids)
	await until(func() -> bool: return not host.ticket_id.is_empty(), WAIT_TIMEOUT, "a ticket")
	var search := host.find_players(ids)
	failed_with(await first.wait(), "cancelled", "the search that was replaced")
	var late := await new_matchmaker("growing")
	var joined: BackendMatch = await late.find_match().wait()
	if succeeded(joined, "the third player"):
		check_eq(joined.room_id, server.server_id, "room")
	var more: BackendMatch = await search.wait()
	if succeeded(more, "more players"):
		check_eq(more.player_ids.size(), 3, "players")
		check_eq(more.get_team(late.session.player_id), "everybody", "team")
		check_eq(more.ticket, null, "ticket of a server")


func test_a_new_search_of_a_player_takes_the_place_of_one_elsewhere() -> void:
	var first := await new_matchmaker("duel")
	var request := first.find_match(skilled(1500))
	await until(func() -> bool: return not first.ticket_id.is_empty(), WAIT_TIMEOUT, "a ticket")
	var second := BackendMatchmaker.new()
	second.session = first.session
	second.matchmaker = "duel"
	add_child(second)
	var again := second.find_match(skilled(1500))
	failed_with(await request.wait(), "cancelled", "the first search")
	check(not again.is_done(), "the second search goes on")


func test_bad_input_is_named() -> void:
	var node := await new_matchmaker("no such matchmaker")
	failed_with(await node.find_match().wait(), "matchmaker_not_found", "unknown matchmaker")
	node.matchmaker = ""
	failed_with(await node.find_match().wait(), "invalid_field", "no matchmaker", "matchmaker")
	node.matchmaker = "duel"
	for case: Array in [
		[{"skill": NAN}, {}, 1, "attributes.skill"],
		[{"skill": null}, {}, 1, "attributes.skill"],
		[{"skill": "high"}, {}, 1, "players[0].attributes[skill]"],
		[{"modes": ["race", 1]}, {}, 1, "attributes.modes"],
		[{"maps": {"pond": "much"}}, {}, 1, "attributes.maps"],
		[{1: 2}, {}, 1, "attributes"],
		[{}, {"eu": -1}, 1, "latencies.eu"],
		[{}, {"eu": INF}, 1, "latencies.eu"],
		[{}, {"eu": "near"}, 1, "latencies.eu"],
		[{}, {}, 0, "party_size"],
		[{}, {}, -1, "party_size"],
		[{}, {}, 201, "party_size"],
		[{}, {}, 3, "party_size"],
	]:
		var options := BackendMatchOptions.new()
		options.attributes = case[0]
		options.latencies = case[1]
		options.party_size = case[2]
		failed_with(await node.find_match(options).wait(), "invalid_field", "%s" % [case], case[3])
	check_eq(node.is_searching(), false, "searching")
	check_eq(node.status, BackendMatchmaker.STATUS_FAILED, "status")
	failed_with(await node.join_party("../x").wait(), "invalid_field", "ticket id", "ticket_id")
	failed_with(await node.join_party("x").wait(), "matchmaking_ticket_not_found", "no such ticket")
	failed_with(await node.list_matches().wait(), "not_configured", "without a registration")
	var unset := BackendMatchmaker.new()
	add_child(unset)
	failed_with(await unset.find_match().wait(), "not_configured", "without a session")
	check_eq(unset.status, BackendMatchmaker.STATUS_IDLE, "status")
	unset.session = new_session()
	unset.matchmaker = "duel"
	failed_with(await unset.find_match().wait(), "not_logged_in", "without a login")


func test_all_kinds_of_attributes_are_sent() -> void:
	await new_room("duel")
	var options := skilled(2000)
	options.attributes["modes"] = PackedStringArray(["race", "hunt"])
	options.attributes["maps"] = {"pond": 1, "swamp": 2.5}
	options.attributes["unknown"] = ["kept", &"ignored"]
	options.latencies = {"eu": 20, &"us": 95.4}
	var first := (await new_matchmaker("duel")).find_match(options)
	var second := (await new_matchmaker("duel")).find_match(options)
	succeeded(await first.wait(), "first")
	succeeded(await second.wait(), "second")


func test_rules_of_the_inspector_become_a_rule_set() -> void:
	var rules := BackendMatchRules.new()
	check_eq(rules.get_error(), null, "the defaults")
	rules.max_team_size = 4
	var rule_set: Dictionary = JSON.parse_string(rules.to_rule_set())
	check_eq(rule_set["teams"][0]["maxPlayers"], 4.0, "players")
	check_eq(rule_set["rules"][0]["maxDistance"], 100.0, "gap")
	check_eq(rule_set["expansions"][0]["steps"][0]["value"], 150.0, "the first step")
	var path := "user://%s.json" % unique("rules")
	check_eq(rules.save_rule_set(path), null, "saved")
	check_eq(FileAccess.get_file_as_string(path), rules.to_rule_set(), "the file")
	check_eq(rules.save_rule_set("user://no folder/rules.json").code, "storage", "no folder")
	rules.max_gap = -1.0
	check_eq(rules.get_error().field, "max_gap", "field")
	check_eq(rules.to_rule_set(), "", "no rule set")
	rules.teams = -1
	check_eq(rules.save_rule_set(path).field, "teams", "field")


## A matchmaker whose player is logged in.
func new_matchmaker(word: String, config: BackendConfig = null) -> BackendMatchmaker:
	var node := BackendMatchmaker.new()
	node.session = await new_player("Guest", config)
	node.matchmaker = word
	add_child(node)
	return node


## A registered server of this mode, without a game.
func new_room(mode: String) -> BackendServerRegistration:
	var server := new_registration(unique("Match"))
	server.mode = mode
	succeeded(await server.register().wait(), "register")
	return server


## Players of one number find one another, and nobody else.
func skilled(skill: int) -> BackendMatchOptions:
	var options := BackendMatchOptions.new()
	options.attributes = {"skill": skill}
	return options


func found_by(matchmakers: Array) -> Array[BackendMatch]:
	var requests := matchmakers.map(
		func(node: BackendMatchmaker) -> BackendRequest: return node.find_match()
	)
	var matches: Array[BackendMatch] = []
	for request: BackendRequest in requests:
		var found: BackendMatch = await request.wait()
		if succeeded(found, "find_match"):
			matches.append(found)
	return matches


func until_status(node: BackendMatchmaker, status: int) -> void:
	await until(func() -> bool: return node.status == status, WAIT_TIMEOUT, "status %d" % status)


## `act` cancels the search of `node`: another one with its ticket ends.
func expect_cancelled_at_backend(node: BackendMatchmaker, act: Callable) -> void:
	var observer := BackendMatchmaker.new()
	observer.session = node.session
	observer.matchmaker = node.matchmaker
	add_child(observer)
	var ticket_id := node.ticket_id
	act.call()
	failed_with(await observer.join_party(ticket_id).wait(), "cancelled", "at the backend")
