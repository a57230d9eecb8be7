class_name Arguments
extends RefCounted
## What stands on the command line after [code]--[/code]: [code]--name=value[/code] or
## [code]--flag[/code].


static func has(flag: String) -> bool:
	return _find(flag) != ""


static func text(name: String, default: String) -> String:
	var found := _find(name)
	return found.get_slice("=", 1) if found.contains("=") else default


static func number(name: String, default: int) -> int:
	var value := text(name, "")
	return value.to_int() if value.is_valid_int() else default


static func _find(name: String) -> String:
	for argument: String in OS.get_cmdline_user_args():
		if argument == "--" + name or argument.begins_with("--%s=" % name):
			return argument
	return ""


## A dedicated server by export, by flag, or forced by the environment.
static func is_server() -> bool:
	match OS.get_environment("BACKEND_MODE"):
		"server":
			return true
		"client":
			return false
	return OS.has_feature("dedicated_server") or has("server")
