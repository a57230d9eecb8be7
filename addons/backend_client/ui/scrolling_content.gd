class_name BackendScrollingContent
extends ScrollContainer
## Is as tall as its content, but not taller than the window: a form that does not fit scrolls.

## Outlines of focused buttons are drawn outside of them.
const OUTLINE := 4.0

## Space that is left free above and below, for the panel around it.
@export var margin := 28.0


func _ready() -> void:
	horizontal_scroll_mode = SCROLL_MODE_DISABLED
	follow_focus = true
	_content().minimum_size_changed.connect(_fit)
	get_viewport().size_changed.connect(_fit)
	_fit()


func _fit() -> void:
	var available := get_viewport_rect().size.y - 2.0 * margin
	var wanted := _content().get_combined_minimum_size()
	var bar := get_v_scroll_bar().get_combined_minimum_size().x
	custom_minimum_size.y = minf(wanted.y + OUTLINE, maxf(available, 120.0))
	# Of content that fits, nothing is cut off: not the outlines at its sides either.
	clip_contents = wanted.y > available
	custom_minimum_size.x = wanted.x + (bar + 2.0 * OUTLINE if clip_contents else 0.0)


func _notification(what: int) -> void:
	# Content that scrolls is cut off, and next to the bar: its outlines need space at both sides.
	if what == NOTIFICATION_SORT_CHILDREN and clip_contents and is_node_ready():
		_content().position.x += OUTLINE
		_content().size.x -= 2.0 * OUTLINE


func _content() -> Control:
	return get_child(0) as Control
