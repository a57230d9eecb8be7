extends "res://ways/login_addon.gd"
## Players who log in with passwords through this addon.

## Accounts that there are.
const ACCOUNTS := 8

var _begun := 0


func _init() -> void:
	limit = 16


func log_in(session: BackendSession) -> BackendRequest:
	_begun += 1
	var email := "player-%d@example.com" % (_begun % ACCOUNTS)
	return session.login_with_password(email, "correct horse battery staple")
