extends "res://ways/login_pool.gd"
## Players who log in with passwords through a pool of HTTPRequest nodes.

## Accounts that there are.
const ACCOUNTS := 8

var _number := 0


func _init() -> void:
	limit = 16
	path = "/v1/auth/password"


func body_text() -> String:
	_number += 1
	var email := "player-%d@example.com" % (_number % ACCOUNTS)
	return JSON.stringify({"email": email, "password": "correct horse battery staple"})
