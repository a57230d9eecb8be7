@abstract class_name BackendScenePanel
extends PanelContainer
## Base of the ready-made scenes: a panel with content of its own and its own translations.
##
## The content is made when the panel enters the tree, so that a panel from the Create Node dialog
## is the same as one from its scene file.

## Least space between the edge of the panel and its content, if the theme sets no
## [code]margin[/code] for the type [code]BackendUi[/code].
const MARGIN := 12

var _content: Control
var _padding := MarginContainer.new()

## The scene inside of the panel. Each scene has its own.
@abstract func _get_content() -> PackedScene


func _init() -> void:
	add_child(_padding, false, INTERNAL_MODE_FRONT)


func _enter_tree() -> void:
	if _content == null:
		BackendUiTranslations.apply(self)
		_content = _get_content().instantiate()
		_padding.add_child(_content)


func _notification(what: int) -> void:
	if what == NOTIFICATION_THEME_CHANGED:
		_pad()


# Panels of the engine's own theme have no margins, those of most games do.
func _pad() -> void:
	var wanted := MARGIN
	if has_theme_constant(&"margin", BackendUiTheme.TYPE):
		wanted = get_theme_constant(&"margin", BackendUiTheme.TYPE)
	var style := get_theme_stylebox(&"panel")
	for side: Side in [SIDE_LEFT, SIDE_TOP, SIDE_RIGHT, SIDE_BOTTOM]:
		var missing := maxi(wanted - int(style.get_margin(side)), 0)
		var name: String = ["margin_left", "margin_top", "margin_right", "margin_bottom"][side]
		_padding.add_theme_constant_override(name, missing)
