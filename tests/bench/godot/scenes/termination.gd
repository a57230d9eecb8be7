extends "res://scenes/players.gd"
## A game server that is told to end while only the game knows the newest state of its players.

var _players: PackedStringArray
var _documents: Array[Dictionary]
var _store: BackendPlayerStore


func _ready() -> void:
	OS.low_processor_usage_mode_sleep_usec = 0
	Engine.max_fps = 60
	await get_tree().process_frame
	_players = FileAccess.get_file_as_string(argument("players")).split("\n")
	_documents = nested_documents(_players.size(), int(argument("number")))
	_store = store_of(await listed_server())
	await load_all(_store, _players)
	_store.collect_saves.connect(_hand_in)
	var shutdown := BackendShutdown.new()
	shutdown.completed.connect(_conclude)
	add_child(shutdown)
	await settle()
	print("READY")


func _hand_in() -> void:
	for index in _players.size():
		if _store.save(_players[index], "progress", _documents[index]) == 0:
			failed += 1


## Each figure counts from the signal on. The shutdown ends the process, with its own exit code.
func _conclude(summary: BackendShutdownSummary) -> void:
	check(summary.exit_code == 0 and summary.unsaved == 0, "shutdown")
	check(summary.saved == _players.size(), "saved")
	var collected := summary.collect_ms
	var journalled := collected + summary.journal_ms
	var committed := journalled + summary.send_ms
	var figures := {
		"collected_ms": collected,
		"journalled_ms": journalled,
		"committed_ms": committed,
		"let_go_ms": committed + summary.release_ms,
		"failed": failed,
	}
	print("FIGURES ", JSON.stringify(figures))
