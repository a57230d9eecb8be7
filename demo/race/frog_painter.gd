class_name FrogPainter
extends RefCounted
## Draws a frog that looks to the right, standing on the origin of [code]place[/code].

const SKIN: Array[Color] = [Color("8ccf5f"), Color("f2a65a")]
const BELLY: Array[Color] = [Color("cdeeb0"), Color("fbd9ae")]
const SULKY := Color("8d93a8")
const INK := Color("21333b")


static func paint(
	canvas: CanvasItem, lane: int, motion: FrogMotion, place := Transform2D.IDENTITY
) -> void:
	var sulking := motion.phase == FrogMotion.Phase.SULKING
	var airborne := motion.phase == FrogMotion.Phase.HOPPING
	var skin := SULKY if sulking else SKIN[lane % SKIN.size()]
	var belly := BELLY[lane % BELLY.size()].lerp(SULKY, 0.5 if sulking else 0.0)
	var stretch := 1.0
	if airborne:
		stretch = 1.16
	elif motion.phase == FrogMotion.Phase.SITTING:
		# Lands flat, then breathes.
		stretch = 1.0 - 0.22 * exp(-9.0 * motion.elapsed) + 0.015 * sin(motion.elapsed * 5.0)
	elif sulking:
		stretch = 0.86
	var scale := Vector2(1.0 / sqrt(stretch), stretch)
	canvas.draw_set_transform_matrix(place)
	_legs(canvas, skin.darkened(0.18), airborne)
	canvas.draw_set_transform_matrix(
		place * Transform2D(0.0, scale, 0.0, Vector2(0, -20 * stretch))
	)
	_ellipse(canvas, Vector2.ZERO, Vector2(31, 23), skin)
	_ellipse(canvas, Vector2(5, 7), Vector2(22, 13), belly)
	for x: float in [-9.0, 17.0]:
		canvas.draw_circle(Vector2(x, -20), 10.5, skin)
		_eye(canvas, Vector2(x, -21), sulking)
	_mouth(canvas, sulking, airborne)
	canvas.draw_circle(Vector2(24, -4), 1.6, INK)
	if not sulking:
		canvas.draw_circle(Vector2(-8, 1), 4.5, Color(1, 0.55, 0.5, 0.35))
	canvas.draw_set_transform_matrix(place)
	if sulking:
		_cloud(canvas, Vector2(2, -82 + sin(motion.elapsed * 7.0) * 2.0))
	canvas.draw_set_transform_matrix(Transform2D.IDENTITY)


static func _legs(canvas: CanvasItem, color: Color, airborne: bool) -> void:
	if airborne:
		canvas.draw_polyline(
			[Vector2(-18, -12), Vector2(-38, 2), Vector2(-50, 20)], color, 9.0, true
		)
		canvas.draw_polyline([Vector2(18, -10), Vector2(34, 0), Vector2(42, -6)], color, 8.0, true)
		_ellipse(canvas, Vector2(-52, 22), Vector2(10, 5), color)
		_ellipse(canvas, Vector2(44, -8), Vector2(7, 4), color)
	else:
		_ellipse(canvas, Vector2(-22, -9), Vector2(15, 11), color)
		_ellipse(canvas, Vector2(-24, 0), Vector2(15, 5), color)
		_ellipse(canvas, Vector2(20, -1), Vector2(12, 4.5), color)


static func _eye(canvas: CanvasItem, at: Vector2, sulking: bool) -> void:
	canvas.draw_circle(at, 7.5, Color.WHITE)
	canvas.draw_circle(at + (Vector2(0, 3) if sulking else Vector2(2, 0)), 3.8, INK)
	canvas.draw_circle(at + Vector2(3, -2), 1.3, Color.WHITE)
	if sulking:
		var lid := PackedVector2Array(
			[at + Vector2(-9, -9), at + Vector2(9, -9), at + Vector2(9, -1), at + Vector2(-9, -4)]
		)
		canvas.draw_colored_polygon(lid, SULKY.darkened(0.12))


static func _mouth(canvas: CanvasItem, sulking: bool, airborne: bool) -> void:
	if airborne:
		_ellipse(canvas, Vector2(13, 1), Vector2(6, 7), INK)
		_ellipse(canvas, Vector2(13, 4), Vector2(4, 3), Color("e2687a"))
	elif sulking:
		canvas.draw_arc(Vector2(12, 10), 8, PI * 1.15, PI * 1.85, 12, INK, 2.6, true)
	else:
		canvas.draw_arc(Vector2(11, -4), 12, PI * 0.12, PI * 0.82, 16, INK, 2.6, true)


static func _cloud(canvas: CanvasItem, at: Vector2) -> void:
	var color := Color(0.28, 0.32, 0.42, 0.92)
	canvas.draw_circle(at, 12, color)
	canvas.draw_circle(at + Vector2(13, 3), 9, color)
	canvas.draw_circle(at + Vector2(-13, 3), 9, color)
	for x: float in [-10.0, 2.0, 13.0]:
		canvas.draw_line(
			at + Vector2(x, 14), at + Vector2(x - 3, 22), Color(0.6, 0.8, 0.95), 2.0, true
		)


static func _ellipse(canvas: CanvasItem, center: Vector2, radius: Vector2, color: Color) -> void:
	var points := PackedVector2Array()
	for step: int in 28:
		points.append(center + Vector2.from_angle(TAU * step / 28.0) * radius)
	canvas.draw_colored_polygon(points, color)
