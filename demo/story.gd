class_name Story
extends RefCounted
## Tells on standard output what happens, one line per event, for people and for tests.

static var who := "client"
static var enabled := false


static func tell(event: String, facts: Dictionary[String, Variant] = {}) -> void:
	if not enabled:
		return
	var line := "STORY %s %s" % [who, event]
	for fact: String in facts:
		line += " %s=%s" % [fact, str(facts[fact]).replace(" ", "_")]
	print(line)
