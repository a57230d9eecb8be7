## Base of the suites that talk to the real backend: makes nodes that point at it, with names nobody
## else uses.
##
## `BACKEND_URL` and `BACKEND_SERVER_KEY_FILE` say where it is and what opens it.
extends "res://suite.gd"

const HostileBackend := preload("res://hostile_backend.gd")
const BackendProxy := preload("res://backend_proxy.gd")
## Far more than a loopback call needs, far less than a person would wait.
const WAIT_TIMEOUT := 15.0

static var _counter := 0


func _ready() -> void:
	for variable: String in ["BACKEND_URL", "BACKEND_SERVER_KEY_FILE"]:
		if OS.get_environment(variable).is_empty():
			fail("%s is not set: these tests need a running backend-server" % variable)


## A word no other test, and no earlier run against the same backend, has used.
static func unique(word: String) -> String:
	_counter += 1
	return "%s-%x-%d" % [word, Time.get_ticks_usec() ^ OS.get_process_id() << 24, _counter]


static func backend_url() -> String:
	return OS.get_environment("BACKEND_URL")


## A configuration that leads to `url`, although the environment names the real backend.
func config_for(url: String) -> BackendConfig:
	var config := BackendConfig.new()
	config.use_overrides = false
	config.base_url = url
	return config


## A proxy to the real backend whose line can be cut.
func new_proxy() -> BackendProxy:
	var proxy := BackendProxy.new()
	proxy.open(backend_url())
	add_child(proxy)
	return proxy


func new_session(config: BackendConfig = null) -> BackendSession:
	var session := BackendSession.new()
	session.config = config
	session.profile = unique("suite")
	add_child(session)
	return session


## A session that is logged in as a new guest.
func new_player(display_name: String = "Guest", config: BackendConfig = null) -> BackendSession:
	var session := new_session(config)
	var login: BackendLoginResult = await session.login_anonymous(display_name).wait()
	succeeded(login, "login of %s" % display_name)
	return session


func new_rooms(session: BackendSession) -> BackendRooms:
	var rooms := BackendRooms.new()
	rooms.session = session
	rooms.config = session.config
	add_child(rooms)
	return rooms


func new_registration(
	server_name: String, config: BackendConfig = null
) -> BackendServerRegistration:
	var registration := BackendServerRegistration.new()
	registration.config = config
	registration.server_name = server_name
	registration.port = 7777
	registration.max_players = 8
	add_child(registration)
	return registration


## A server that is registered, under a name of its own.
func new_server(word: String, config: BackendConfig = null) -> BackendServerRegistration:
	var registration := new_registration(unique(word), config)
	var registered: BackendRegistrationResult = await registration.register().wait()
	succeeded(registered, "registration of %s" % word)
	return registration


func ticket_for(session: BackendSession, server_id: String) -> String:
	var rooms := new_rooms(session)
	var ticket: BackendJoinTicket = await rooms.request_ticket(server_id).wait()
	rooms.queue_free()
	return ticket.ticket if succeeded(ticket, "join ticket") else ""


## The rooms whose name contains `search`, once it is `count` of them.
func rooms_named(rooms: BackendRooms, search: String) -> BackendRoomPage:
	var query := BackendRoomQuery.new()
	query.search = search
	return await rooms.list_rooms(query).wait()


func succeeded(result: Object, what: String) -> bool:
	if result == null:
		fail("%s: no result" % what)
		return false
	if result.call(&"ok"):
		return true
	var error: BackendError = result.get(&"error")
	fail("%s: %s (%s)" % [what, error.message, error.code])
	return false


## `result` failed with `code`; with `field`, it names that field.
func failed_with(result: Object, code: String, what: String, field: String = "") -> bool:
	if result == null or not result.call(&"failed"):
		fail("%s: expected %s, but it did not fail" % [what, code])
		return false
	var error: BackendError = result.get(&"error")
	var right := check_eq(error.code, code, "%s: code (%s)" % [what, error.message])
	if not field.is_empty():
		right = check_eq(error.field, field, "%s: field" % what) and right
	return check(not error.message.is_empty(), "%s: the error says nothing" % what) and right


func new_hostile_backend() -> HostileBackend:
	var backend := HostileBackend.new()
	add_child(backend)
	return backend
