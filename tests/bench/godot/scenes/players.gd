extends "res://scenes/scene.gd"
## A listed server with players of its own, and something to save of each.

## Players loaded at a time.
const LOADS := 200


func listed_server() -> BackendServerRegistration:
	OS.set_environment("BACKEND_SERVER_KEY_FILE", argument("key-file"))
	var registration := BackendServerRegistration.new()
	registration.server_name = "Bench"
	registration.public_address = "127.0.0.1"
	registration.port = 9
	registration.max_players = 10_000
	add_child(registration)
	var registered: BackendRegistrationResult = await registration.register().wait()
	check(registered.ok(), "register")
	return registration


## A store that sends when it is asked to.
func store_of(registration: BackendServerRegistration) -> BackendPlayerStore:
	var store := BackendPlayerStore.new()
	store.registration = registration
	store.autosave_interval = 0.0
	store.debounce_seconds = 3_600.0
	store.max_delay_seconds = 3_600.0
	add_child(store)
	return store


func load_all(store: BackendPlayerStore, players: PackedStringArray) -> void:
	for some in range(0, players.size(), LOADS):
		var loads := Array(players.slice(some, some + LOADS)).map(store.load_player)
		for load: BackendRequest in loads:
			var documents: BackendPlayerDocuments = await load.wait()
			check(documents.ok(), "load")


## 2 KiB each, of a game's nested state.
func nested_documents(count: int, first: int) -> Array[Dictionary]:
	var documents: Array[Dictionary] = []
	for number in count:
		var inventory: Array = []
		for index in 24:
			inventory.append({"id": "item_%d" % index, "count": index * 3, "wear": 0.25})
		var quests := {}
		for index in 12:
			quests["quest_%d" % index] = {"state": "active", "step": index, "seen": true}
		var document := {
			"number": first + number,
			"name": "Ada",
			"inventory": inventory,
			"quests": quests,
			"position": [1.5, 2.25, -3.0],
			"settings": {"volume": 0.8, "language": "en"},
			"stats": {"kills": 120, "deaths": 7, "best": {"ms": 12_345}},
			"notes": "x".repeat(330),
		}
		documents.append(document)
	return documents
