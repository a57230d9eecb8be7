class_name BackendRoomIcons
extends RefCounted
## Draws the icons of the server browser. They are as sharp at 200 % as at 100 %, and the theme
## replaces them with icons of the type [code]BackendUi[/code].


## Draws [param name] into [param rect]: the theme's icon, or the built-in one.
static func draw(canvas: Control, name: StringName, rect: Rect2, color: Color) -> void:
	var icon := BackendUiTheme.icon(canvas, name)
	if icon != null:
		canvas.draw_texture_rect(icon, rect, false, color)
		return
	match name:
		&"favorite":
			canvas.draw_colored_polygon(_star(rect), color)
		&"favorite_outline":
			var outline := _star(rect.grow(-rect.size.x * 0.06))
			outline.append(outline[0])
			canvas.draw_polyline(outline, color, maxf(rect.size.x * 0.06, 1.0))
		&"lock":
			_draw_lock(canvas, rect, color)
		&"lan":
			_draw_lan(canvas, rect, color)


## Draws [param filled] of four bars, the others faintly.
static func draw_bars(canvas: Control, rect: Rect2, filled: int, color: Color) -> void:
	var width := rect.size.x / 5.0
	for bar: int in 4:
		var height := rect.size.y * (bar + 1) / 4.0
		var at := Vector2(rect.position.x + bar * width * 1.33, rect.end.y - height)
		var shade := color if bar < filled else Color(color, 0.25)
		canvas.draw_rect(Rect2(at, Vector2(width, height)), shade)


static func _star(rect: Rect2) -> PackedVector2Array:
	var points := PackedVector2Array()
	for step: int in 10:
		var radius := 0.48 if step % 2 == 0 else 0.22
		var angle := -PI / 2.0 + step * PI / 5.0
		points.append(rect.get_center() + Vector2.from_angle(angle) * rect.size * radius)
	return points


static func _draw_lock(canvas: Control, rect: Rect2, color: Color) -> void:
	var unit := rect.size.x / 10.0
	var top := rect.position + Vector2(unit * 5.0, unit * 4.4)
	canvas.draw_arc(top, unit * 2.4, PI, TAU, 12, color, unit * 1.3, true)
	canvas.draw_rect(
		Rect2(rect.position + Vector2(1.4, 4.4) * unit, Vector2(7.2, 5.2) * unit), color
	)


static func _draw_lan(canvas: Control, rect: Rect2, color: Color) -> void:
	var unit := rect.size.x / 10.0
	var line := maxf(unit, 1.0)
	var box := Vector2(3.4, 2.6) * unit
	for at: Vector2 in [Vector2(3.3, 0.6), Vector2(0.4, 6.8), Vector2(6.2, 6.8)]:
		canvas.draw_rect(Rect2(rect.position + at * unit, box), color)
	for ends: Array in [
		[Vector2(5, 3), Vector2(5, 5)],
		[Vector2(2, 5), Vector2(8, 5)],
		[Vector2(2.1, 5), Vector2(2.1, 7)],
		[Vector2(7.9, 5), Vector2(7.9, 7)],
	]:
		canvas.draw_line(
			rect.position + ends[0] * unit, rect.position + ends[1] * unit, color, line
		)
