## Tests that fail on purpose: what the runner must notice, so that a green run means something.
extends "res://suite.gd"

signal never_emitted

const EXPECTED_FAILURES: Dictionary[String, Array] = {
	"test_wrong_value": ["sum: got 4, expected 5"],
	"test_wrong_type": ["number: got 1, expected 1.0"],
	"test_failed_check": ["never true"],
	"test_two_failures_are_both_told": ["first", "second"],
	"test_script_error": ["Invalid access to property or key 'absent'"],
	"test_script_error_after_await": ["Invalid access to property or key 'absent'"],
	"test_engine_error": ["Node not found"],
	"test_pushed_error": ["said by push_error"],
	"test_missing_expected_error": ["expected engine error missing: never said"],
	"test_signal_that_never_comes": ["signal never_emitted: not within"],
	"test_hangs": ["not finished within"],
	"test_leaked_node": ["leaked 1 objects", "leaked 1 orphan nodes"],
	"test_leaked_cycle": ["leaked 1 objects"],
}


class Cycle:
	extends RefCounted

	var itself: Cycle


func test_passes() -> void:
	check_eq(2 + 2, 4, "sum")


func test_passes_late() -> void:
	await frames(3)
	check(true, "always true")


func test_expected_error_passes() -> void:
	expect_error("said on purpose")
	push_error("said on purpose")


func test_children_are_freed_with_the_suite() -> void:
	for _child in 10:
		add_child(Node.new())


func test_wrong_value() -> void:
	check_eq(2 + 2, 5, "sum")


func test_wrong_type() -> void:
	check_eq(1, 1.0, "number")


func test_failed_check() -> void:
	check(false, "never true")


func test_two_failures_are_both_told() -> void:
	fail("first")
	await frames(1)
	fail("second")


func test_script_error() -> void:
	var empty: Dictionary = {}
	print(empty.absent)


func test_script_error_after_await() -> void:
	await frames(2)
	var empty: Dictionary = {}
	print(empty.absent)


func test_engine_error() -> void:
	get_node("nobody/here")


func test_pushed_error() -> void:
	push_error("said by push_error")


func test_missing_expected_error() -> void:
	expect_error("never said")


func test_signal_that_never_comes() -> void:
	await within(0.05, never_emitted)


func test_hangs() -> void:
	timeout_seconds = 0.2
	await never_emitted


func test_leaked_node() -> void:
	var orphan := Node.new()
	orphan.name = "PlantedOrphan"


func test_leaked_cycle() -> void:
	var cycle := Cycle.new()
	cycle.itself = cycle
