extends "res://ways/way.gd"
## Guests who log in through this addon, each with a session of its own.

var limit := 64

var _idle: Array[BackendSession] = []
var _waiting := 0


func _ready() -> void:
	for number in limit:
		var session := BackendSession.new()
		session.profile = "guest-%d" % number
		add_child(session)
		_idle.append(session)


func submit() -> void:
	submitted += 1
	_waiting += 1
	_begin()


## Begins one login.
func log_in(session: BackendSession) -> BackendRequest:
	return session.login_anonymous("Ada")


func _begin() -> void:
	if _waiting > 0 and not _idle.is_empty():
		_waiting -= 1
		var session: BackendSession = _idle.pop_back()
		log_in(session).completed.connect(_on_completed.bind(session))


func _on_completed(result: BackendLoginResult, session: BackendSession) -> void:
	# Whoever it is, it is the right one.
	note("player-1" if result.ok() and not result.player_id.is_empty() else "")
	_idle.append(session)
	_begin()
