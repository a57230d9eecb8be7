@tool
extends RefCounted
## What the panel remembers for this project, in a file that git ignores.

const FILE := "res://.godot/backend_client/panel.cfg"
const SECTION := "run"

var servers := 1
var clients := 1
var server_arguments := "--server --port={port}"
var client_arguments := ""
var backend_arguments := ""
## Port of the backend. Sessions of players are kept for each URL, so it stays the same.
var backend_port := 8420
## Port through which games reach it, for the same reason. 0 = the next one.
var proxy_port := 0
## Port of the first server.
var first_port := 7777

var _path: String


func _init(path: String = FILE) -> void:
	_path = path
	var file := ConfigFile.new()
	if file.load(path) != OK:
		return
	servers = file.get_value(SECTION, "servers", servers)
	clients = file.get_value(SECTION, "clients", clients)
	server_arguments = file.get_value(SECTION, "server_arguments", server_arguments)
	client_arguments = file.get_value(SECTION, "client_arguments", client_arguments)
	backend_arguments = file.get_value(SECTION, "backend_arguments", backend_arguments)
	backend_port = file.get_value(SECTION, "backend_port", backend_port)
	proxy_port = file.get_value(SECTION, "proxy_port", proxy_port)
	first_port = file.get_value(SECTION, "first_port", first_port)


func save() -> void:
	var file := ConfigFile.new()
	file.set_value(SECTION, "servers", servers)
	file.set_value(SECTION, "clients", clients)
	file.set_value(SECTION, "server_arguments", server_arguments)
	file.set_value(SECTION, "client_arguments", client_arguments)
	file.set_value(SECTION, "backend_arguments", backend_arguments)
	file.set_value(SECTION, "backend_port", backend_port)
	file.set_value(SECTION, "proxy_port", proxy_port)
	file.set_value(SECTION, "first_port", first_port)
	DirAccess.make_dir_recursive_absolute(_path.get_base_dir())
	var saved := file.save(_path)
	if saved != OK:
		push_warning("%s cannot be written: %s" % [_path, error_string(saved)])
