class_name BackendRoomColumns
extends RefCounted
## Widths and places of the columns of the server browser. Where there is little room, the less
## important columns are left out.

enum Column { FAVORITE, NAME, MAP, MODE, PLAYERS, PING }

const TITLES: Dictionary[Column, String] = {
	Column.NAME: "Server",
	Column.MAP: "Map",
	Column.MODE: "Mode",
	Column.PLAYERS: "Players",
	Column.PING: "Ping",
}
## Space between columns, in parts of the font's height.
const GAP := 0.5
const _STRETCH: Dictionary[Column, float] = {Column.NAME: 3.0, Column.MAP: 1.3, Column.MODE: 1.3}
## Widths in parts of the font's height.
const _FIXED: Dictionary[Column, float] = {
	Column.FAVORITE: 1.6, Column.PLAYERS: 4.8, Column.PING: 6.0
}
## The same where the name would have too little.
const _NARROW: Dictionary[Column, float] = {
	Column.FAVORITE: 1.6, Column.PLAYERS: 4.0, Column.PING: 4.2
}
## Least width of the list, in parts of the font's height, for a column to be shown.
const _NEEDS: Dictionary[Column, float] = {Column.MAP: 26.0, Column.MODE: 36.0}

## The columns that are shown, in order.
var shown: Array[Column] = []

var _left: Dictionary[Column, float] = {}
var _width: Dictionary[Column, float] = {}
var _total := 0.0
var _mirrored := false


## Lays the columns out on [param width].
func lay_out(width: float, em: float, mirrored: bool) -> void:
	shown.clear()
	_total = width
	_mirrored = mirrored
	var fixed := _NARROW if width < _NEEDS[Column.MAP] * em else _FIXED
	var rest := width - GAP * em
	var parts := 0.0
	for column: Column in Column.values():
		if width < _NEEDS.get(column, 0.0) * em:
			continue
		shown.append(column)
		rest -= fixed.get(column, 0.0) * em + GAP * em
		parts += _STRETCH.get(column, 0.0)
	var at := GAP * em
	for column: Column in shown:
		var own: float = fixed.get(column, 0.0) * em
		if _STRETCH.has(column):
			own = maxf(rest, 0.0) * _STRETCH[column] / parts
		_left[column] = at
		_width[column] = own
		at += own + GAP * em


## The place of a column on a row of [param height].
func rect(column: Column, height: float) -> Rect2:
	var left := _left[column]
	var width := _width[column]
	return Rect2(_total - left - width if _mirrored else left, 0.0, width, height)


## The column at [param x], or -1.
func at(x: float) -> int:
	for column: Column in shown:
		var place := rect(column, 1.0)
		if x >= place.position.x and x < place.end.x:
			return column
	return -1
