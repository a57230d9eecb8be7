class_name Pond
extends Node2D
## Water, lily pads and the finish, drawn anew with every ripple.

const WATER_TOP := Color("4d9fae")
const WATER_BOTTOM := Color("215466")
const PAD := Color("3f8f55")
const PAD_LIGHT := Color("59ab66")

var length := 20

var _time := 0.0


func _process(delta: float) -> void:
	_time += delta
	queue_redraw()


func _draw() -> void:
	var area := get_viewport_rect().size
	var corners := PackedVector2Array([Vector2.ZERO, Vector2(area.x, 0), area, Vector2(0, area.y)])
	draw_polygon(corners, PackedColorArray([WATER_TOP, WATER_TOP, WATER_BOTTOM, WATER_BOTTOM]))
	_shore(area)
	_ripples(area)
	for lane: int in Frog.LANES.size():
		_lane(lane)
	_finish()


func _shore(area: Vector2) -> void:
	var grass := PackedVector2Array([Vector2.ZERO, Vector2(area.x, 0)])
	for step: int in 33:
		var x := area.x * (1.0 - step / 32.0)
		grass.append(Vector2(x, 150 + 12 * sin(x * 0.013) + 5 * sin(x * 0.05)))
	draw_colored_polygon(grass, Color("2f6b46"))
	for index: int in 34:
		var x := index * 40.0 + 14.0 * sin(index * 7.0)
		var base := Vector2(x, 156 + 12 * sin(x * 0.013))
		var sway := 4.0 * sin(_time * 1.3 + index)
		var tip := base + Vector2(sway, -46 - 16 * sin(index * 3.0))
		draw_line(base, tip, Color("3d8554"), 3.0, true)
		if index % 3 == 0:
			draw_line(tip, tip + Vector2(sway * 0.2, 18), Color("8a5a3b"), 7.0, true)


func _ripples(area: Vector2) -> void:
	for index: int in 26:
		var x := fposmod(index * 197.0 + _time * (6.0 + index % 5), area.x + 120.0) - 60.0
		var y := 190.0 + fmod(index * 83.0, area.y - 210.0)
		var width := 26.0 + 12.0 * sin(_time + index)
		draw_arc(Vector2(x, y), width, PI * 0.2, PI * 0.8, 14, Color(1, 1, 1, 0.10), 2.5, true)


func _lane(lane: int) -> void:
	for index: int in length + 1:
		var at := Vector2(Frog.PAD_START + index * Frog.TRACK / length, Frog.LANES[lane] + 8)
		var bob := 1.6 * sin(_time * 1.7 + index * 0.9 + lane * 2.0)
		var size := minf(24.0, Frog.TRACK / length * 0.48)
		_pad(at + Vector2(0, bob), size, index)


func _pad(at: Vector2, size: float, index: int) -> void:
	var points := PackedVector2Array([at])
	var notch := 0.35 + 0.9 * fmod(index * 0.37, 1.0)
	for step: int in 25:
		var angle := notch + 0.22 + (TAU - 0.44) * step / 24.0
		points.append(at + Vector2(cos(angle) * size, sin(angle) * size * 0.5))
	var shadow := points.duplicate()
	for point: int in shadow.size():
		shadow[point] += Vector2(0, 5)
	draw_colored_polygon(shadow, Color(0, 0.15, 0.2, 0.3))
	draw_colored_polygon(points, PAD if index % 2 == 0 else PAD_LIGHT)
	if index % 7 == 3:
		for petal: int in 6:
			var offset := Vector2.from_angle(TAU * petal / 6.0) * Vector2(6, 3.5)
			draw_circle(at + Vector2(0, -5) + offset, 3.6, Color("f6c6d9"))
		draw_circle(at + Vector2(0, -5), 2.8, Color("f7e07a"))


func _finish() -> void:
	var x := Frog.PAD_START + Frog.TRACK + 34.0
	var top := Frog.LANES[0] - 130.0
	var bottom := Frog.LANES[-1] + 40.0
	draw_line(Vector2(x, top), Vector2(x, bottom), Color("f4efe0"), 5.0, true)
	for row: int in 4:
		for column: int in 6:
			var wave := 4.0 * sin(_time * 3.0 + column * 0.8)
			var cell := Rect2(x + column * 12.0, top + row * 12.0 + wave, 12.0, 12.0)
			draw_rect(cell, Color("21333b") if (row + column) % 2 == 0 else Color("f4efe0"))
