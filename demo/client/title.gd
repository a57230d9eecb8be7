extends Control
## The name of the game and its two racers, beside the menus, over the same pond the race is run on.

var _motions: Array[FrogMotion] = [FrogMotion.new(), FrogMotion.new()]
var _time := 0.0


func _process(delta: float) -> void:
	_time += delta
	for index: int in _motions.size():
		_motions[index].advance(delta)
		if (
			_motions[index].phase == FrogMotion.Phase.SITTING
			and _motions[index].elapsed > 0.9 + index * 0.5
		):
			_motions[index].hop()
	queue_redraw()


func _draw() -> void:
	draw_polygon(
		PackedVector2Array([Vector2.ZERO, Vector2(size.x, 0), size, Vector2(0, size.y)]),
		PackedColorArray([Pond.WATER_TOP, Pond.WATER_TOP, Pond.WATER_BOTTOM, Pond.WATER_BOTTOM])
	)
	for index: int in 18:
		var at := Vector2(
			fposmod(index * 173.0 + _time * 7.0, size.x + 160.0) - 80.0,
			60.0 + fmod(index * 97.0, size.y - 90.0)
		)
		draw_arc(
			at,
			26.0 + 8.0 * sin(_time + index),
			PI * 0.2,
			PI * 0.8,
			14,
			Color(1, 1, 1, 0.09),
			2.5,
			true
		)
	var font := get_theme_default_font()
	var at := Vector2(70, 190)
	draw_string_outline(
		font, at, "Frog Race", HORIZONTAL_ALIGNMENT_LEFT, -1, 84, 18, Color("14404a")
	)
	draw_string(font, at, "Frog Race", HORIZONTAL_ALIGNMENT_LEFT, -1, 84, Color("e9f7dc"))
	for index: int in _motions.size():
		_frog(index, Vector2(190 + index * 150, 420 + index * 110))


func _frog(index: int, at: Vector2) -> void:
	var pad := PackedVector2Array()
	for step: int in 28:
		pad.append(at + Vector2(0, 14) + Vector2.from_angle(TAU * step / 28.0) * Vector2(100, 30))
	draw_colored_polygon(pad, Pond.PAD_LIGHT if index == 0 else Pond.PAD)
	var airborne := _motions[index].phase == FrogMotion.Phase.HOPPING
	var height := (
		sin(PI * _motions[index].elapsed / FrogMotion.HOP_SECONDS) * 60.0 if airborne else 0.0
	)
	FrogPainter.paint(
		self,
		index,
		_motions[index],
		Transform2D(0.0, Vector2(2, 2), 0.0, at + Vector2(0, 8 - height))
	)
