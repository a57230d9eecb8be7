## What a player does with an account, from a script's point of view, up to the mails that go out.
extends "res://backend_suite.gd"

const IdentityHook := preload("res://identity_hook.gd")
const AdminClient := preload("res://admin_client.gd")
const PASSWORD := "correct horse battery"
const OTHER_PASSWORD := "staple the other horse"


func test_a_guest_that_gets_a_password_keeps_id_and_progress() -> void:
	var guest := await new_player("Ada")
	var player_id := guest.player_id
	await save_progress(player_id, {"wins": 3})
	var before: BackendAccount = await guest.read_account().wait()
	if succeeded(before, "account"):
		check_eq(before.is_guest, true, "guest before")
		check_eq(before.has_password, false, "password before")
	var email := new_address()
	var linked: BackendAccount = await guest.link_password(email, PASSWORD).wait()
	if succeeded(linked, "link"):
		check_eq(linked.player_id, player_id, "player")
		check_eq(linked.email, email, "address")
		check_eq(linked.has_password, true, "password")
		check_eq(linked.is_guest, false, "guest")
	failed_with(
		await guest.link_password(new_address(), PASSWORD).wait(), "already_linked", "link again"
	)
	var elsewhere := new_session()
	var login: BackendLoginResult = await elsewhere.login_with_password(email, PASSWORD).wait()
	if succeeded(login, "login elsewhere"):
		check_eq(login.player_id, player_id, "player elsewhere")
		check_eq(login.created, false, "created")
	var documents: BackendPlayerDocuments = await elsewhere.read_documents().wait()
	if succeeded(documents, "documents elsewhere"):
		check_eq(documents.get_document("progress"), {"wins": 3}, "progress")
	check_eq(guest.is_logged_in(), true, "the guest's own session")


func test_a_linked_device_logs_in_to_the_account() -> void:
	var device := unique("device-with-a-long-id")
	var ada := await new_player("Ada")
	var linked: BackendAccount = await ada.link_device(device).wait()
	if succeeded(linked, "link"):
		check_eq(linked.has_device, true, "device")
	var login: BackendLoginResult = await new_session().login_with_device(device).wait()
	if succeeded(login, "login"):
		check_eq(login.player_id, ada.player_id, "player")
	var bo := await new_player("Bo")
	failed_with(await bo.link_device(device).wait(), "already_linked", "somebody else's device")


func test_a_changed_password_ends_the_other_sessions_only() -> void:
	var email := new_address()
	var ada := new_session()
	succeeded(await ada.register(email, PASSWORD, "Ada").wait(), "register")
	var other := new_session()
	succeeded(await other.login_with_password(email, PASSWORD).wait(), "login elsewhere")
	var expiries := record(other.expired)
	failed_with(
		await ada.change_password("wrong horse battery", OTHER_PASSWORD).wait(),
		"invalid_credentials",
		"wrong password"
	)
	succeeded(await ada.change_password(PASSWORD, OTHER_PASSWORD).wait(), "change")
	succeeded(await ada.read_documents().wait(), "this session goes on")
	failed_with(await other.read_documents().wait(), "refresh_token_invalid", "the other session")
	check_eq(expiries.size(), 1, "emissions of expired")
	check_eq(other.is_logged_in(), false, "the other is logged in")
	failed_with(
		await new_session().login_with_password(email, PASSWORD).wait(),
		"invalid_credentials",
		"the old password"
	)
	succeeded(
		await new_session().login_with_password(email, OTHER_PASSWORD).wait(), "the new password"
	)


func test_a_forgotten_password_is_set_with_the_code_from_the_mail() -> void:
	var email := new_address()
	var ada := new_session()
	succeeded(await ada.register(email, PASSWORD, "Ada").wait(), "register")
	var other := new_session()
	succeeded(await other.request_password_reset(new_address()).wait(), "nobody's address")
	# The mail that verifies the address came first.
	await until(func() -> bool: return codes_for(email).size() == 1, WAIT_TIMEOUT, "first mail")
	var first := codes_for(email)
	succeeded(await other.request_password_reset(email.to_upper()).wait(), "request")
	await until(func() -> bool: return codes_for(email).size() == 2, WAIT_TIMEOUT, "second mail")
	var code := ""
	for sent in codes_for(email):
		code = code if sent in first else sent
	failed_with(
		await other.reset_password(email, "AAAAA-AAAAA", OTHER_PASSWORD).wait(),
		"mail_code_invalid",
		"wrong code"
	)
	# As people type it.
	var typed := code.to_lower().replace("-", " ")
	succeeded(await other.reset_password(email, typed, OTHER_PASSWORD).wait(), "reset")
	failed_with(
		await other.reset_password(email, code, PASSWORD).wait(), "mail_code_invalid", "used code"
	)
	var expiries := record(ada.expired)
	failed_with(await ada.refresh().wait(), "refresh_token_invalid", "the session of before")
	check_eq(expiries.size(), 1, "emissions of expired")
	succeeded(await other.login_with_password(email, OTHER_PASSWORD).wait(), "login")


func test_an_address_is_verified_with_the_code_from_the_mail() -> void:
	var email := new_address()
	var ada := new_session()
	succeeded(await ada.register(email, PASSWORD, "Ada").wait(), "register")
	await until(func() -> bool: return codes_for(email).size() == 1, WAIT_TIMEOUT, "mail")
	var before: BackendAccount = await ada.read_account().wait()
	check_eq(before.email_verified, false, "verified before")
	failed_with(await ada.verify_email("AAAAA-AAAAA").wait(), "mail_code_invalid", "wrong code")
	succeeded(await ada.request_email_code().wait(), "another code")
	await until(func() -> bool: return codes_for(email).size() == 2, WAIT_TIMEOUT, "another mail")
	var verified: BackendAccount = null
	# The newer code replaced the older, and files have no order.
	for code in codes_for(email):
		var tried: BackendAccount = await ada.verify_email(code).wait()
		verified = tried if tried.ok() else verified
	if check(verified != null, "no code was good"):
		check_eq(verified.email_verified, true, "verified")


func test_logout_everywhere_ends_every_session() -> void:
	var device := unique("device-with-a-long-id")
	var ada := new_session()
	var other := new_session()
	succeeded(await ada.login_with_device(device, "Ada").wait(), "login")
	succeeded(await other.login_with_device(device).wait(), "login elsewhere")
	var logouts := record(ada.logged_out)
	var expiries := record(other.expired)
	succeeded(await ada.logout_everywhere().wait(), "logout everywhere")
	check_eq(logouts.size(), 1, "emissions of logged_out")
	failed_with(await other.read_documents().wait(), "refresh_token_invalid", "the other session")
	check_eq(expiries.size(), 1, "emissions of expired")
	check_eq(other.is_logged_in(), false, "the other is logged in")


func test_an_identity_of_another_platform_logs_in() -> void:
	var hook := IdentityHook.new()
	add_child(hook)
	var token := IdentityHook.PREFIX + unique("gabe")
	var first: BackendLoginResult = await new_session().login_external("suite", token).wait()
	var again: BackendLoginResult = await new_session().login_external("suite", token).wait()
	if succeeded(first, "login") and succeeded(again, "login again"):
		check_eq(first.created, true, "created")
		check_eq(first.display_name, "Steamy", "name from the platform")
		check_eq(again.created, false, "created again")
		check_eq(again.player_id, first.player_id, "player")
	failed_with(
		await new_session().login_external("suite", "stolen").wait(), "token_invalid", "bad token"
	)
	failed_with(
		await new_session().login_external("nowhere", token).wait(),
		"invalid_field",
		"unknown provider",
		"provider"
	)
	# A guest links another identity, and is found by it.
	var guest := await new_player("Ada")
	var other_token := IdentityHook.PREFIX + unique("ada")
	var linked: BackendAccount = await guest.link_external("suite", other_token).wait()
	if succeeded(linked, "link"):
		check_eq(linked.providers, PackedStringArray(["suite"]), "providers")
	var found: BackendLoginResult = await (
		new_session().login_external("suite", other_token).wait()
	)
	if succeeded(found, "login with the linked identity"):
		check_eq(found.player_id, guest.player_id, "player of the linked identity")
	failed_with(await guest.link_external("suite", token).wait(), "already_linked", "somebody's")
	check_eq(hook.strangers, 0, "questions without the secret")
	check(hook.asked >= 6, "the hook was asked %d times" % hook.asked)
	hook.free()
	var away: BackendLoginResult = await new_session().login_external("suite", token).wait()
	check(away.failed() and away.error.retryable, "a hook that is away is not retryable")


func test_a_copied_session_is_revoked_for_both() -> void:
	var ada := await new_player("Ada")
	var profile := ada.profile
	var kept := file_of(profile)
	var copied := FileAccess.get_file_as_bytes(kept)
	succeeded(await ada.refresh().wait(), "refresh")
	succeeded(await ada.refresh().wait(), "second refresh")
	# Somebody who has a copy of what was kept earlier.
	var file := FileAccess.open(kept, FileAccess.WRITE)
	var written := file.store_buffer(copied)
	check(written, "the copy was written")
	file.close()
	var thief := new_session()
	thief.profile = profile
	var revocations := record(thief.revoked)
	failed_with(await thief.restore().wait(), "refresh_token_reused", "restore of the copy")
	check_eq(revocations.size(), 1, "emissions of revoked")
	failed_with(await ada.refresh().wait(), "refresh_token_invalid", "the owner's session")


func test_a_banned_player_is_told() -> void:
	var ada := await new_player("Ada")
	var bans := record(ada.banned)
	var admin := AdminClient.new()
	add_child(admin)
	check_eq(await admin.ban(ada.player_id), 204, "ban")
	failed_with(await ada.read_account().wait(), "banned", "call")
	check_eq(bans.size(), 1, "emissions of banned")
	check_eq(ada.is_logged_in(), false, "logged in")


func test_an_offline_start_keeps_the_player_and_goes_on_online() -> void:
	var proxy := new_proxy()
	var config := config_for(proxy.url())
	config.timeout_seconds = 2.0
	var ada := await new_player("Ada", config)
	proxy.cut_line()
	var later := BackendSession.new()
	later.config = config
	later.profile = ada.profile
	add_child(later)
	var refreshes := record(later.refreshed)
	var restored: BackendLoginResult = await later.restore().wait()
	if succeeded(restored, "restore"):
		check_eq(restored.offline, true, "offline")
		check_eq(restored.player_id, ada.player_id, "player")
	check_eq(later.is_logged_in(), true, "logged in")
	var call: BackendPlayerDocuments = await later.read_documents().wait()
	check(call.failed() and call.error.retryable, "a call without a line is not retryable")
	proxy.connect_line()
	await until(
		func() -> bool: return not refreshes.is_empty(), WAIT_TIMEOUT, "refreshed by itself"
	)
	succeeded(await later.read_documents().wait(), "documents")


func test_what_is_kept_is_not_readable() -> void:
	var ada := await new_player("Legible-Ada")
	var kept := file_of(ada.profile)
	check(FileAccess.file_exists(kept), "the session is kept in %s" % kept)
	for file in files_below("user://backend_client"):
		if file.get_extension() == "jwks":
			# Public keys, with a seal.
			continue
		var text := FileAccess.get_file_as_bytes(file).get_string_from_ascii()
		for secret: String in ["grt_", "eyJ", ada.player_id, "Legible-Ada"]:
			check(not text.contains(secret), "%s holds %s in clear text" % [file, secret])
	if OS.has_feature("linux"):
		var mode := FileAccess.get_unix_permissions(kept)
		check_eq(mode & 63, 0, "others' access to %s" % kept)


func new_address() -> String:
	return unique("ada") + "@example.org"


func codes_for(email: String) -> PackedStringArray:
	return AdminClient.codes_for(email)


func save_progress(player_id: String, progress: Dictionary) -> void:
	var store := BackendPlayerStore.new()
	store.registration = await new_server("Keeper")
	add_child(store)
	succeeded(await store.load_player(player_id).wait(), "load")
	store.save(player_id, "progress", progress)
	succeeded(await store.release_player(player_id).wait(), "release")


## Where the session of `profile` is kept.
func file_of(profile: String) -> String:
	for file in files_below("user://backend_client"):
		if file.get_file().contains(profile) and file.get_extension() != "lock":
			return file
	fail("nothing is kept for %s" % profile)
	return ""


func files_below(folder: String) -> PackedStringArray:
	var files: PackedStringArray = []
	for file in DirAccess.get_files_at(folder):
		files.append(folder.path_join(file))
	for inner in DirAccess.get_directories_at(folder):
		files.append_array(files_below(folder.path_join(inner)))
	return files
