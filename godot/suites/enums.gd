## The enums of the classes, as scripts and the editor see them.
extends "res://suite.gd"

const ENUMS: Dictionary[String, Dictionary] = {
	"BackendMatchmaker": {"Status": BackendMatchmaker.STATUS_FAILED},
	"BackendPlayer": {"TokenKind": BackendPlayer.KIND_JOIN_TICKET},
	"BackendPlayerStore": {"ConflictResolution": BackendPlayerStore.MANUAL},
	"BackendRoom":
	{"Status": BackendRoom.STATUS_UNHEALTHY, "Visibility": BackendRoom.VISIBILITY_PRIVATE},
	"BackendRoomFollow": {"State": BackendRoomFollow.STATE_STOPPED},
	"BackendRoomQuery": {"SortOrder": BackendRoomQuery.SORT_VERSION},
	"BackendServerRegistration":
	{
		"HostKind": BackendServerRegistration.HOST_GCP,
		"Visibility": BackendServerRegistration.VISIBILITY_PRIVATE,
	},
	"BackendShutdown": {"Phase": BackendShutdown.PHASE_COMPLETED},
	"BackendTokenValidator": {"Policy": BackendTokenValidator.REMOTE_ONLY},
}


func test_every_constant_of_a_class_belongs_to_an_enum() -> void:
	for name: String in ClassDB.get_class_list():
		if not name.begins_with("Backend"):
			continue
		var left := Array(ClassDB.class_get_integer_constant_list(name, true))
		var expected: Dictionary = ENUMS.get(name, {})
		var enums := Array(ClassDB.class_get_enum_list(name, true))
		enums.sort()
		check_eq(enums, expected.keys(), "enums of %s" % name)
		for set_name: String in enums:
			var constants := Array(ClassDB.class_get_enum_constants(name, set_name, true))
			# Numbered from 0, without a gap.
			check_eq(constants.size(), expected[set_name] + 1, "%s.%s" % [name, set_name])
			for index: int in constants.size():
				var value := ClassDB.class_get_integer_constant(name, constants[index])
				check_eq(value, index, "%s.%s" % [name, constants[index]])
				left.erase(constants[index])
		check_eq(left, [], "constants of %s that are in no enum" % name)


func test_an_enum_is_a_type_of_scripts() -> void:
	var matchmaker := BackendMatchmaker.new()
	var status: BackendMatchmaker.Status = matchmaker.status as BackendMatchmaker.Status
	check_eq(status, BackendMatchmaker.Status.STATUS_IDLE, "status")
	check_eq(status, BackendMatchmaker.STATUS_IDLE, "the same constant without its enum")
	matchmaker.free()
	var query := BackendRoomQuery.new()
	query.sort = BackendRoomQuery.SortOrder.SORT_PLAYERS
	var order: BackendRoomQuery.SortOrder = query.sort as BackendRoomQuery.SortOrder
	check_eq(order, BackendRoomQuery.SORT_PLAYERS, "sort")


func test_the_inspector_offers_what_the_enum_holds() -> void:
	for pair: Array in [
		[BackendRoomQuery.new(), "sort", "SortOrder"],
		[BackendRoomOptions.new(), "visibility", ""],
	]:
		var object: Object = pair[0]
		var matching := object.get_property_list().filter(
			func(property: Dictionary) -> bool: return property["name"] == pair[1]
		)
		check_eq(matching[0]["hint"], PROPERTY_HINT_ENUM, "hint of %s" % pair[1])
		if not pair[2].is_empty():
			var offered: PackedStringArray = matching[0]["hint_string"].split(",")
			var constants := ClassDB.class_get_enum_constants(object.get_class(), pair[2], true)
			check_eq(offered.size(), constants.size(), "values of %s" % pair[1])
