class_name BackendUiTheme
extends RefCounted
## Theme items of the ready-made scenes that the engine's own types do not have.
##
## A theme sets them for the type [code]BackendUi[/code]. Those it does not set are derived from its
## text and panel colors, with a contrast of at least 4.5.

const TYPE := &"BackendUi"
const MIN_CONTRAST := 4.5
const _HUES: Dictionary[StringName, Color] = {
	&"error_color": Color("e5484d"),
	&"success_color": Color("46a758"),
	&"warning_color": Color("f5a524"),
	&"favorite_color": Color("f5c518"),
}


## The color [param name] for text and icons on the panel that [param control] is on.
static func color(control: Control, name: StringName) -> Color:
	if control.has_theme_color(name, TYPE):
		return control.get_theme_color(name, TYPE)
	var text := control.get_theme_color(&"font_color", &"Label")
	var background := _background(control, text)
	if name == &"secondary_color":
		return readable(background.lerp(text, 0.7), background, text)
	return readable(_HUES.get(name, text), background, text)


## The icon [param name] of the theme, or [code]null[/code] if the theme has none.
static func icon(control: Control, name: StringName) -> Texture2D:
	return control.get_theme_icon(name, TYPE) if control.has_theme_icon(name, TYPE) else null


## [param wanted], moved toward [param text] until it is readable on [param background].
static func readable(wanted: Color, background: Color, text: Color) -> Color:
	for step: int in 21:
		var mixed := wanted.lerp(text, step / 20.0)
		if contrast(mixed, background) >= MIN_CONTRAST:
			return mixed
	return text


## Contrast ratio by WCAG 2, from 1 to 21.
static func contrast(one: Color, other: Color) -> float:
	var brighter := maxf(_luminance(one), _luminance(other))
	var darker := minf(_luminance(one), _luminance(other))
	return (brighter + 0.05) / (darker + 0.05)


static func _luminance(seen: Color) -> float:
	var linear := seen.srgb_to_linear()
	return 0.2126 * linear.r + 0.7152 * linear.g + 0.0722 * linear.b


static func _background(control: Control, text: Color) -> Color:
	var at: Node = control
	while at is Control:
		var panel := at as PanelContainer
		if panel != null:
			var style := panel.get_theme_stylebox(&"panel") as StyleBoxFlat
			if style != null and style.draw_center and style.bg_color.a > 0.5:
				return Color(style.bg_color, 1.0)
		at = at.get_parent()
	return Color(0.2, 0.2, 0.2) if _luminance(text) > 0.3 else Color(0.85, 0.85, 0.85)
