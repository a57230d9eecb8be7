class_name EventLog
extends RefCounted
## Prints what happens to standard output, one line per event, for people and for tests.

static var who := "client"
static var enabled := false


static func emit(event: String, facts: Dictionary[String, Variant] = {}) -> void:
	if not enabled:
		return
	var line := "EVENT %s %s" % [who, event]
	for fact: String in facts:
		line += " %s=%s" % [fact, str(facts[fact]).replace(" ", "_")]
	print(line)
