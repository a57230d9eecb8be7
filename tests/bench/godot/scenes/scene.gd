extends Node
## What scenes that measure have in common. Times of the main thread are processor time.

## How often something went wrong.
var failed := 0


## What the command line says.
func argument(argument_name: String) -> String:
	var prefix := "--%s=" % argument_name
	for text in OS.get_cmdline_user_args():
		if text.begins_with(prefix):
			return text.trim_prefix(prefix)
	return ""


func check(fine: bool, what: String) -> void:
	if not fine:
		failed += 1
		printerr("failed: ", what)


## Ends with what was measured, and with how often something went wrong.
func conclude(figures: Dictionary) -> void:
	figures["failed"] = failed
	print("FIGURES ", JSON.stringify(figures))
	get_tree().quit()


## Processor time that the process's first thread had until it last slept (proc_pid_schedstat(5)).
func processor_usec() -> float:
	var file := FileAccess.open("/proc/self/schedstat", FileAccess.READ)
	return file.get_line().get_slice(" ", 0).to_float() / 1000.0


## Processor time of the main thread in an idle frame at this moment, in microseconds.
func idle_frame_usec() -> float:
	await settle()
	var before := processor_usec()
	for _frame in 20:
		await get_tree().process_frame
	return (processor_usec() - before) / 20


## Processor time of the main thread in an idle frame, measured as [method longest_frame] does it.
func idle_frame_cost() -> float:
	var costs: Array[float] = []
	for _frame in 60:
		var before := processor_usec()
		await get_tree().process_frame
		costs.append(processor_usec() - before)
	return median(costs)


## Processor time of the main thread in the longest frame until `is_over` returns true.
func longest_frame(is_over: Callable) -> float:
	var longest := 0.0
	var before := processor_usec()
	while not is_over.call():
		await get_tree().process_frame
		var now := processor_usec()
		longest = maxf(longest, now - before)
		before = now
	return longest


## A frame that takes too long does not sleep: its time is in the books some frames later.
func settle() -> void:
	for _frame in 3:
		await get_tree().process_frame


func median(values: Array[float]) -> float:
	values.sort()
	return values[values.size() / 2]
