class_name BackendListedRoom
extends RefCounted
## A row of the server browser: a room, or a saved server that is not running.

## The room, or [code]null[/code] if the server is not running.
var room: BackendRoom
## What the row is known by while the list changes.
var id := ""
## Address by which the server is saved.
var key := ""
var name := ""
## Whether the room was in the list and no longer is.
var is_gone := false
var is_favorite := false


func is_joinable() -> bool:
	return room != null and not is_gone


func is_full() -> bool:
	return room != null and room.is_full


func has_password() -> bool:
	return room != null and room.has_password


func is_lan() -> bool:
	return room != null and room.is_lan
