extends Node
## Chooses what this process is: a dedicated server without a window, a client with one.


func _ready() -> void:
	var is_server := OS.has_feature("dedicated_server") or "--server" in OS.get_cmdline_user_args()
	var scene := "res://server/server.tscn" if is_server else "res://client/client.tscn"
	get_tree().change_scene_to_file.call_deferred(scene)
