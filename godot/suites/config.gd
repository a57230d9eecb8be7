## Where the settings come from, and what a wrong one says.
extends "res://backend_suite.gd"

const SETTINGS: Dictionary[String, Variant] = {
	"backend_client/network/base_url": "",
	"backend_client/network/timeout_seconds": 10.0,
	"backend_client/network/retry_attempts": 3,
	"backend_client/network/max_in_flight": 64,
	"backend_client/network/allow_insecure_http": false,
	"backend_client/auth/issuer": "backend_client",
	"backend_client/auth/game": "default",
	"backend_client/server/public_address": "auto",
	"backend_client/shutdown/grace_seconds": 25.0,
	"backend_client/log/level": "info",
}


func test_every_project_setting_is_there_with_its_default() -> void:
	for setting: String in SETTINGS:
		if check(ProjectSettings.has_setting(setting), "%s is missing" % setting):
			check_eq(ProjectSettings.get_setting(setting), SETTINGS[setting], setting)


func test_no_setting_could_hold_a_server_key() -> void:
	for property in ProjectSettings.get_property_list():
		var setting: String = property["name"]
		if setting.begins_with("backend_client/"):
			check(
				not setting.contains("key") and not setting.contains("secret"),
				"%s invites a secret" % setting
			)
	for property in BackendConfig.new().get_property_list():
		var member: String = property["name"]
		check(not member.contains("key"), "BackendConfig.%s invites a secret" % member)


func test_no_url_anywhere_is_not_configured() -> void:
	var url := backend_url()
	OS.unset_environment("BACKEND_URL")
	var session := new_session()
	var request := session.login_anonymous()
	OS.set_environment("BACKEND_URL", url)
	var login: BackendLoginResult = await request.wait()
	failed_with(login, "not_configured", "login")
	check_eq(login.error.retryable, false, "retryable")
	check_eq(login.error.http_status, 0, "http status")


func test_the_project_setting_is_used_when_the_environment_is_silent() -> void:
	var url := backend_url()
	OS.unset_environment("BACKEND_URL")
	ProjectSettings.set_setting("backend_client/network/base_url", url)
	var session := new_session()
	var request := session.login_anonymous("Setting")
	ProjectSettings.set_setting("backend_client/network/base_url", "")
	OS.set_environment("BACKEND_URL", url)
	succeeded(await request.wait(), "login")


func test_the_environment_wins_over_the_resource() -> void:
	var proxy := new_proxy()
	proxy.cut_line()
	var config := config_for(proxy.url())
	config.use_overrides = true
	succeeded(await new_session(config).login_anonymous("Override").wait(), "login")
	check_eq(proxy.accepted, 0, "connections to the resource's URL")


func test_plain_http_is_refused_beyond_the_loopback() -> void:
	for url: String in [
		"http://192.0.2.1",
		"http://example.org:8420",
		"http://127.0.0.1.example.org",
		"http://[2001:db8::1]"
	]:
		var session := new_session(config_for(url))
		failed_with(await session.login_anonymous().wait(), "insecure_url", url)
		session.free()


func test_a_url_that_is_none_is_refused() -> void:
	for url: String in [
		"backend",
		"ftp://127.0.0.1",
		"http://",
		"http://127.0.0.1:99999",
		"file:///etc/passwd",
		"http://a b"
	]:
		var session := new_session(config_for(url))
		failed_with(await session.login_anonymous().wait(), "invalid_url", url, "base_url")
		session.free()


func test_numbers_out_of_range_are_refused() -> void:
	var config := config_for(backend_url())
	config.timeout_seconds = -3.0
	failed_with(
		await new_session(config).login_anonymous().wait(),
		"invalid_field",
		"timeout",
		"timeout_seconds"
	)


func test_nothing_listens_there() -> void:
	var proxy := new_proxy()
	proxy.cut_line()
	var login: BackendLoginResult = await (
		new_session(config_for(proxy.url())).login_anonymous().wait()
	)
	failed_with(login, "network", "login")
	check_eq(login.error.retryable, true, "retryable")
	check_eq(login.error.http_status, 0, "http status")


func test_a_backend_that_never_answers_times_out() -> void:
	var backend := new_hostile_backend()
	backend.stay_silent()
	var config := config_for(backend.url())
	config.timeout_seconds = 0.5
	var login: BackendLoginResult = await new_session(config).login_anonymous().wait()
	failed_with(login, "timeout", "login")
	check_eq(login.error.retryable, true, "retryable")


func test_nodes_that_lack_something_say_so_in_the_editor() -> void:
	var url := backend_url()
	OS.unset_environment("BACKEND_URL")
	for node: Node in [
		BackendSession.new(),
		BackendRooms.new(),
		BackendTokenValidator.new(),
		BackendServerRegistration.new(),
		BackendPeerAuth.new(),
		BackendPlayerStore.new(),
	]:
		add_child(node)
		var warnings := warnings_of(node)
		check(not warnings.is_empty(), "%s does not warn" % node.get_class())
		for warning in warnings:
			check(warning.length() > 20, "%s says too little: %s" % [node.get_class(), warning])
		node.free()
	OS.set_environment("BACKEND_URL", url)


func test_nodes_that_lack_nothing_do_not_warn() -> void:
	var config := config_for(backend_url())
	var session := new_session(config)
	var registration := new_registration("Complete", config)
	var rooms := new_rooms(session)
	var validator := BackendTokenValidator.new()
	validator.config = config
	validator.registration = registration
	var store := BackendPlayerStore.new()
	store.config = config
	store.registration = registration
	var peer_auth := BackendPeerAuth.new()
	peer_auth.config = config
	peer_auth.session = session
	peer_auth.validator = validator
	peer_auth.registration = registration
	for node: Node in [validator, store, peer_auth]:
		add_child(node)
	for node: Node in [session, registration, rooms, validator, store, peer_auth]:
		check_eq(warnings_of(node), PackedStringArray(), "warnings of %s" % node.get_class())


## The editor asks the virtual method; so does this.
func warnings_of(node: Node) -> PackedStringArray:
	return node.call(&"_get_configuration_warnings")
