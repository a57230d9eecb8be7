## Documents at random, the same ones for the same seed, out of what is easily lost on the way
## through JSON; and whether two of them are the same bit for bit, which `==` does not tell: for it,
## 3 is 3.0 and 0.0 is -0.0.
extends RefCounted

const INTS: Array[int] = [
	0,
	1,
	-1,
	3,
	2_147_483_647,
	-2_147_483_648,
	2_147_483_648,
	9_007_199_254_740_992,
	9_007_199_254_740_993,
	-9_007_199_254_740_993,
	9_223_372_036_854_775_807,
	-9_223_372_036_854_775_807 - 1,
]
const FLOATS: Array[float] = [
	0.0,
	1.0,
	3.0,
	-3.0,
	0.1,
	1.5,
	16_777_217.0,
	9_007_199_254_740_992.0,
	9_223_372_036_854_775_808.0,
	1e15,
	1e16,
	1e21,
	1e22,
	1e308,
	-1e308,
	1e-7,
]
## Bits of floats that a script may not write: the smallest and the largest subnormal, the smallest
## normal and the largest one, and -0.0, which the compiler takes for a 0.0 of the same script.
const BITS: Array[int] = [
	1,
	0x000f_ffff_ffff_ffff,
	0x0010_0000_0000_0000,
	0x7fef_ffff_ffff_ffff,
	-9_223_372_036_854_775_807 - 1,
]
const TEXTS: Array[String] = [
	"",
	"\ufeff",
	"\ufeff\ufeff",
	"\ufeffa",
	"a\ufeff",
	"a",
	"\u00e9",
	"e\u0301",
	"\ufffd",
	"\uffff",
	'"\\/',
	"\u0001\b\f\n\r\t\u001f\u007f",
	"\u2028\u2029",
	"\U01f438",
	"\u202eabc",
	"3.0",
	"null",
	" a ",
]

var _random := RandomNumberGenerator.new()


func _init(random_seed: int) -> void:
	_random.seed = random_seed


## A document of the types that JSON has and of Godot's own.
func next() -> Dictionary:
	return _dictionary(4)


static func negative_zero() -> float:
	var bytes := PackedByteArray([0, 0, 0, 0, 0, 0, 0, 0x80])
	return bytes.decode_double(0)


## Both are the same: types, bits of numbers, characters of texts.
static func is_same_document(one: Variant, other: Variant) -> bool:
	if typeof(one) != typeof(other):
		return false
	match typeof(one):
		TYPE_ARRAY:
			var ones: Array = one
			var others: Array = other
			if ones.size() != others.size():
				return false
			return range(ones.size()).all(
				func(index: int) -> bool: return is_same_document(ones[index], others[index])
			)
		TYPE_DICTIONARY:
			var members: Dictionary = one
			var other_members: Dictionary = other
			if members.size() != other_members.size():
				return false
			return members.keys().all(
				func(key: Variant) -> bool:
					return (
						other_members.has(key)
						and is_same_document(members[key], other_members[key])
					)
			)
		_:
			return var_to_bytes(one) == var_to_bytes(other)


func _dictionary(depth: int) -> Dictionary:
	var members := {}
	for _index in _random.randi_range(0, 6):
		members[_text()] = _value(depth - 1)
	return members


func _value(depth: int) -> Variant:
	var kind := _random.randi_range(0, 6 if depth <= 0 else 9)
	if kind == 0:
		return _godot_value()
	if kind < 7:
		return _scalar(kind - 1)
	if kind == 7:
		return _dictionary(depth)
	var elements := []
	for _index in _random.randi_range(0, 5):
		elements.append(_value(depth - 1))
	return elements


func _scalar(kind: int) -> Variant:
	# Whole floats beside ints are what is mixed up most easily.
	var whole := _random.randi_range(-100, 100)
	var scalars: Array = [
		null,
		_random.randi_range(0, 1) == 1,
		INTS[_random.randi_range(0, INTS.size() - 1)],
		_float(),
		_text(),
		float(whole) if _random.randi_range(0, 1) == 1 else whole,
	]
	return scalars[kind]


func _float() -> float:
	var bytes := PackedByteArray()
	bytes.resize(8)
	match _random.randi_range(0, 2):
		0:
			return FLOATS[_random.randi_range(0, FLOATS.size() - 1)]
		1:
			bytes.encode_s64(0, BITS[_random.randi_range(0, BITS.size() - 1)])
		_:
			bytes.encode_u32(0, _random.randi())
			bytes.encode_u32(4, _random.randi())
	var value := bytes.decode_double(0)
	return value if is_finite(value) else 3.0


func _text() -> String:
	if _random.randi_range(0, 2) > 0:
		return TEXTS[_random.randi_range(0, TEXTS.size() - 1)]
	var text := ""
	for _index in _random.randi_range(0, 6):
		# All of Unicode but for U+0000 and the surrogates, which no String holds.
		var codepoint := _random.randi_range(1, 0x10ffff - 0x800)
		text += String.chr(codepoint if codepoint < 0xd800 else codepoint + 0x800)
	return text


func _godot_value() -> Variant:
	var kinds: Array[Callable] = [
		_vector2,
		func() -> Vector2i: return Vector2i(_int32(), _int32()),
		func() -> Rect2: return Rect2(_vector2(), _vector2()),
		func() -> Rect2i: return Rect2i(_int32(), _int32(), _int32(), _int32()),
		_vector3,
		func() -> Vector3i: return Vector3i(_int32(), _int32(), _int32()),
		func() -> Transform2D: return Transform2D(_vector2(), _vector2(), _vector2()),
		_vector4,
		func() -> Vector4i: return Vector4i(_int32(), _int32(), _int32(), _int32()),
		func() -> Plane: return Plane(_single(), _single(), _single(), _single()),
		func() -> Quaternion: return Quaternion(_single(), _single(), _single(), _single()),
		func() -> AABB: return AABB(_vector3(), _vector3()),
		_basis,
		func() -> Transform3D: return Transform3D(_basis(), _vector3()),
		func() -> Projection: return Projection(_vector4(), _vector4(), _vector4(), _vector4()),
		_color,
		func() -> NodePath: return NodePath("../%d/b:c" % _random.randi_range(0, 9)),
		func() -> PackedByteArray: return PackedByteArray(_some(_byte)),
		func() -> PackedInt32Array: return PackedInt32Array(_some(_int32)),
		func() -> PackedInt64Array: return PackedInt64Array(_some(_int64)),
		func() -> PackedFloat32Array: return PackedFloat32Array(_some(_single)),
		func() -> PackedFloat64Array: return PackedFloat64Array(_some(_float)),
		func() -> PackedStringArray: return PackedStringArray(_some(_text)),
		func() -> PackedVector2Array: return PackedVector2Array(_some(_vector2)),
		func() -> PackedVector3Array: return PackedVector3Array(_some(_vector3)),
		func() -> PackedVector4Array: return PackedVector4Array(_some(_vector4)),
		func() -> PackedColorArray: return PackedColorArray(_some(_color)),
	]
	return kinds[_random.randi_range(0, kinds.size() - 1)].call()


func _some(element: Callable) -> Array:
	return range(_random.randi_range(0, 4)).map(func(_i: int) -> Variant: return element.call())


func _vector2() -> Vector2:
	return Vector2(_single(), _single())


func _vector3() -> Vector3:
	return Vector3(_single(), _single(), _single())


func _vector4() -> Vector4:
	return Vector4(_single(), _single(), _single(), _single())


func _basis() -> Basis:
	return Basis(_vector3(), _vector3(), _vector3())


func _color() -> Color:
	return Color(_single(), _single(), _single(), _single())


func _byte() -> int:
	return _random.randi_range(0, 255)


func _int64() -> int:
	return INTS[_random.randi_range(0, INTS.size() - 1)]


func _int32() -> int:
	return _random.randi() - 2_147_483_648


# A number that 32 bits hold, as Godot's vectors do.
func _single() -> float:
	if _random.randi_range(0, 1) == 0:
		return _random.randi_range(-16, 16) / 8.0
	var bytes := PackedByteArray([0, 0, 0, 0])
	bytes.encode_u32(0, _random.randi())
	var value := bytes.decode_float(0)
	return value if is_finite(value) else 3.0
