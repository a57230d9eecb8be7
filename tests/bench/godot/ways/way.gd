extends Node
## One way of asking the backend who a token belongs to.

var url: String
var key: String
var token: String
var use_threads := false

var completed := 0
var failed := 0
var submitted := 0
## When the last result came.
var last_usec := 0
var last_frame := 0


## Asks once.
func submit() -> void:
	pass


## Forgets what was submitted and not begun.
func drop_waiting() -> void:
	pass


## Calls begun and not completed.
func in_flight() -> int:
	return submitted - completed


## A result: whose token it is.
func note(player_id: String) -> void:
	completed += 1
	if player_id != "player-1":
		failed += 1
	last_usec = Time.get_ticks_usec()
	last_frame = Engine.get_process_frames()
