## Base of every suite: the checks a test makes and the waiting it does.
##
## A new instance is made for each test and freed after it with everything below it in the tree.
extends Node

## After this long the runner gives the test up as failed.
var timeout_seconds := 60.0
## Set by the runner once the test has returned.
var finished := false
var failures: PackedStringArray = []
var expected_errors: PackedStringArray = []
var tolerated_errors: PackedStringArray = []


## One engine error whose text contains `part` does not fail this test; its absence does.
func expect_error(part: String) -> void:
	expected_errors.append(part)


## Engine errors whose text contains `part` do not fail this test, however many come. For errors
## that the engine itself reports about a misbehaving remote peer, whose number depends on the
## network's timing.
func tolerate_errors(part: String) -> void:
	tolerated_errors.append(part)


func fail(what: String) -> void:
	failures.append(what)


func check(condition: bool, what: String) -> bool:
	if not condition:
		fail(what)
	return condition


func check_eq(actual: Variant, expected: Variant, what: String = "value") -> bool:
	# A method that returns "no object" gives a null of another type than the literal.
	if (typeof(actual) == typeof(expected) or expected == null) and actual == expected:
		return true
	fail("%s: got %s, expected %s" % [what, var_to_str(actual), var_to_str(expected)])
	return false


## The first argument of `wait`'s next emission, null when it carries none; fails the test when none
## comes.
func within(seconds: float, wait: Signal) -> Variant:
	var seen := record(wait)
	var what := "signal %s" % wait.get_name()
	if not await until(func() -> bool: return not seen.is_empty(), seconds, what):
		return null
	var arguments := seen[0]
	return null if arguments.is_empty() else arguments[0]


## Waits until `condition` holds; fails the test, and gives false, when it does not within
## `seconds`.
func until(condition: Callable, seconds: float, what: String = "the condition") -> bool:
	var deadline := Time.get_ticks_msec() + int(seconds * 1000.0)
	while not condition.call():
		if Time.get_ticks_msec() > deadline:
			fail("%s: not within %.1f s" % [what, seconds])
			return false
		await get_tree().process_frame
	return true


## Lets `count` frames pass, for showing that something does not happen.
func frames(count: int) -> void:
	for _frame in count:
		await get_tree().process_frame


## The arguments of every emission of `source` from now on, in order.
func record(source: Signal) -> Array[Array]:
	var seen: Array[Array] = []
	source.connect(func(...arguments: Array) -> void: seen.append(arguments))
	return seen
