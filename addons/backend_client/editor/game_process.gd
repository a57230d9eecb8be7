@tool
extends "child_process.gd"
## A server or a client of this project, run with the editor's own program.

enum Role { SERVER, CLIENT }

var role: Role
## Port for players. 0 for a client.
var port := 0
## URL of the debugger that it reports its state to. Empty: none.
var debugger_url := ""


## Starts it with [param words] after `--path`, see [method command_line].
func run(words: String, backend_url: String, server_key_file: String) -> Error:
	var environment := without_backend_variables()
	environment["BACKEND_URL"] = backend_url
	environment["BACKEND_MODE"] = "server" if role == Role.SERVER else "client"
	if role == Role.SERVER:
		environment["BACKEND_SERVER_KEY_FILE"] = server_key_file
		environment["BACKEND_PUBLIC_ADDRESS"] = "127.0.0.1"
	return start(OS.get_executable_path(), command_line(words), environment)


## The arguments of the engine. Words before `--` are for the engine, words after it for the game;
## without `--`, all are for the game.
func command_line(words: String) -> PackedStringArray:
	var own := split_words(words.format({"port": port, "name": name}))
	var separator := own.find("--")
	var line: PackedStringArray = ["--path", ProjectSettings.globalize_path("res://")]
	if role == Role.SERVER:
		line.append("--headless")
	if not debugger_url.is_empty():
		# It runs on after an error in a script, as it does without a debugger.
		line.append_array(["--remote-debug", debugger_url, "--ignore-error-breaks"])
	line.append_array(own.slice(0, maxi(separator, 0)))
	line.append_array(["--", profile_argument()])
	line.append_array(own.slice(separator + 1))
	return line


func profile_argument() -> String:
	return "--backend-profile=%s" % name


## Words between spaces. Spaces between double quotes belong to the word.
static func split_words(text: String) -> PackedStringArray:
	var words: PackedStringArray = []
	var word := ""
	var is_quoted := false
	var is_word := false
	for character in text:
		if character == '"':
			is_quoted = not is_quoted
			is_word = true
		elif character == " " and not is_quoted:
			if is_word:
				words.append(word)
			word = ""
			is_word = false
		else:
			word += character
			is_word = true
	if is_word:
		words.append(word)
	return words
