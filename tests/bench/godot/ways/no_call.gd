extends "res://ways/way.gd"
## No call at all: what a request, its signal, its handler and its result cost a script by
## themselves. A request is answered in the frame after it was made.


class Request:
	extends RefCounted
	signal completed(result: Result)


class Player:
	extends RefCounted
	var player_id := "player-1"


class Result:
	extends RefCounted
	var player := Player.new()

	func ok() -> bool:
		return true


var _pending: Array[Request] = []


func submit() -> void:
	submitted += 1
	var request := Request.new()
	_pending.append(request)
	request.completed.connect(_on_completed)


func _process(_delta: float) -> void:
	var answered := _pending
	_pending = []
	for request in answered:
		request.completed.emit(Result.new())


func _on_completed(result: Result) -> void:
	note(result.player.player_id if result.ok() else "")
