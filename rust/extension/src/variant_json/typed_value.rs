//! Values of Godot that JSON does not have, as JSON objects of two members: `{"$godot": "Vector2", "value": [1.0, 2.0]}`.
//!
//! The guide describes the encoding for other languages (`docs/src/saving.md`). A form that ever changes gets another name.

use backend_client::player_store::GODOT_TYPE;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use godot::builtin::VariantType;
use godot::prelude::*;
use serde_json::{Map, Value};

/// The member that names the type.
pub const MARK: &str = GODOT_TYPE;
/// The member that has what the value consists of.
pub const VALUE: &str = "value";

/// What a value consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// So many of the engine's `real_t`.
    Reals(usize),
    /// So many floats of 32 bits.
    Singles(usize),
    /// So many integers of 32 bits.
    Ints(usize),
    /// Any number of elements, each with so many `real_t`.
    RealsEach(usize),
    /// Any number of elements, each with so many floats of 32 bits.
    SinglesEach(usize),
    Int32List,
    Int64List,
    Float32List,
    Float64List,
    TextList,
    /// Base64 in the typed encoding, a list of numbers in the plain one.
    Bytes,
    Path,
}

impl Shape {
    /// Whether JSON has a value for it that does without the name of the type.
    pub const fn is_plain(self) -> bool {
        matches!(
            self,
            Self::Int32List
                | Self::Int64List
                | Self::Float32List
                | Self::Float64List
                | Self::TextList
                | Self::Bytes
                | Self::Path
        )
    }
}

/// The name and the shape of a type, if it has any here.
pub const fn of(kind: VariantType) -> Option<(&'static str, Shape)> {
    Some(match kind {
        VariantType::VECTOR2 => ("Vector2", Shape::Reals(2)),
        VariantType::VECTOR2I => ("Vector2i", Shape::Ints(2)),
        VariantType::RECT2 => ("Rect2", Shape::Reals(4)),
        VariantType::RECT2I => ("Rect2i", Shape::Ints(4)),
        VariantType::VECTOR3 => ("Vector3", Shape::Reals(3)),
        VariantType::VECTOR3I => ("Vector3i", Shape::Ints(3)),
        VariantType::TRANSFORM2D => ("Transform2D", Shape::Reals(6)),
        VariantType::VECTOR4 => ("Vector4", Shape::Reals(4)),
        VariantType::VECTOR4I => ("Vector4i", Shape::Ints(4)),
        VariantType::PLANE => ("Plane", Shape::Reals(4)),
        VariantType::QUATERNION => ("Quaternion", Shape::Reals(4)),
        VariantType::AABB => ("AABB", Shape::Reals(6)),
        VariantType::BASIS => ("Basis", Shape::Reals(9)),
        VariantType::TRANSFORM3D => ("Transform3D", Shape::Reals(12)),
        VariantType::PROJECTION => ("Projection", Shape::Reals(16)),
        VariantType::COLOR => ("Color", Shape::Singles(4)),
        VariantType::NODE_PATH => ("NodePath", Shape::Path),
        VariantType::PACKED_BYTE_ARRAY => ("PackedByteArray", Shape::Bytes),
        VariantType::PACKED_INT32_ARRAY => ("PackedInt32Array", Shape::Int32List),
        VariantType::PACKED_INT64_ARRAY => ("PackedInt64Array", Shape::Int64List),
        VariantType::PACKED_FLOAT32_ARRAY => ("PackedFloat32Array", Shape::Float32List),
        VariantType::PACKED_FLOAT64_ARRAY => ("PackedFloat64Array", Shape::Float64List),
        VariantType::PACKED_STRING_ARRAY => ("PackedStringArray", Shape::TextList),
        VariantType::PACKED_VECTOR2_ARRAY => ("PackedVector2Array", Shape::RealsEach(2)),
        VariantType::PACKED_VECTOR3_ARRAY => ("PackedVector3Array", Shape::RealsEach(3)),
        VariantType::PACKED_VECTOR4_ARRAY => ("PackedVector4Array", Shape::RealsEach(4)),
        VariantType::PACKED_COLOR_ARRAY => ("PackedColorArray", Shape::SinglesEach(4)),
        _ => return None,
    })
}

/// Whether a key of a game's Dictionary reads like [`MARK`] with any number of `$` before it: it gets one more.
pub fn is_like_mark(key: &str) -> bool {
    key.starts_with('$') && key.trim_start_matches('$') == &MARK[1..]
}

/// The key as the game has it.
pub fn without_escape(key: &str) -> &str {
    if key.len() > MARK.len() && is_like_mark(key) { &key[1..] } else { key }
}

/// The value that `object` stands for; none if it is an object as any other, or of a type that is not known here.
pub fn variant(object: &Map<String, Value>) -> Option<Variant> {
    let (Some(Value::String(name)), Some(value), 2) = (object.get(MARK), object.get(VALUE), object.len())
    else {
        return None;
    };
    Some(match name.as_str() {
        "Vector2" => vector2(reals(value)?).to_variant(),
        "Vector2i" => {
            let [x, y] = ints(value)?;
            Vector2i::new(x, y).to_variant()
        }
        "Rect2" => {
            let [x, y, width, height] = reals(value)?;
            Rect2::new(Vector2::new(x, y), Vector2::new(width, height)).to_variant()
        }
        "Rect2i" => {
            let [x, y, width, height] = ints(value)?;
            Rect2i::new(Vector2i::new(x, y), Vector2i::new(width, height)).to_variant()
        }
        "Vector3" => vector3(reals(value)?).to_variant(),
        "Vector3i" => {
            let [x, y, z] = ints(value)?;
            Vector3i::new(x, y, z).to_variant()
        }
        "Transform2D" => {
            let [ax, ay, bx, by, x, y] = reals(value)?;
            Transform2D::from_cols(Vector2::new(ax, ay), Vector2::new(bx, by), Vector2::new(x, y))
                .to_variant()
        }
        "Vector4" => vector4(reals(value)?).to_variant(),
        "Vector4i" => {
            let [x, y, z, w] = ints(value)?;
            Vector4i::new(x, y, z, w).to_variant()
        }
        "Plane" => {
            let [x, y, z, d] = reals(value)?;
            // As it was saved, also if its normal is not of length 1.
            Plane { normal: Vector3::new(x, y, z), d }.to_variant()
        }
        "Quaternion" => {
            let [x, y, z, w] = reals(value)?;
            Quaternion::new(x, y, z, w).to_variant()
        }
        "AABB" => {
            let [x, y, z, width, height, depth] = reals(value)?;
            Aabb::new(Vector3::new(x, y, z), Vector3::new(width, height, depth)).to_variant()
        }
        "Basis" => basis(&reals::<9>(value)?).to_variant(),
        "Transform3D" => {
            let all: [real; 12] = reals(value)?;
            let (rows, origin) = all.split_at(9);
            Transform3D::new(basis(rows.first_chunk()?), vector3(*origin.first_chunk()?)).to_variant()
        }
        "Projection" => {
            let all: [real; 16] = reals(value)?;
            let column = |index: usize| vector4([all[index], all[index + 1], all[index + 2], all[index + 3]]);
            Projection::new([column(0), column(4), column(8), column(12)]).to_variant()
        }
        "Color" => color(singles(value)?).to_variant(),
        "NodePath" => NodePath::from(value.as_str()?).to_variant(),
        "PackedByteArray" => {
            PackedByteArray::from(BASE64_STANDARD.decode(value.as_str()?).ok()?).to_variant()
        }
        "PackedInt32Array" => list(value, int32)?.collect::<Option<PackedInt32Array>>()?.to_variant(),
        "PackedInt64Array" => list(value, Value::as_i64)?.collect::<Option<PackedInt64Array>>()?.to_variant(),
        "PackedFloat32Array" => list(value, single)?.collect::<Option<PackedFloat32Array>>()?.to_variant(),
        "PackedFloat64Array" => {
            list(value, Value::as_f64)?.collect::<Option<PackedFloat64Array>>()?.to_variant()
        }
        "PackedStringArray" => {
            let text = |text: &Value| text.as_str().map(super::gstring);
            list(value, text)?.collect::<Option<PackedStringArray>>()?.to_variant()
        }
        "PackedVector2Array" => {
            each(value, real_number, vector2)?.collect::<PackedVector2Array>().to_variant()
        }
        "PackedVector3Array" => {
            each(value, real_number, vector3)?.collect::<PackedVector3Array>().to_variant()
        }
        "PackedVector4Array" => {
            each(value, real_number, vector4)?.collect::<PackedVector4Array>().to_variant()
        }
        "PackedColorArray" => each(value, single, color)?.collect::<PackedColorArray>().to_variant(),
        _ => return None,
    })
}

const fn vector2([x, y]: [real; 2]) -> Vector2 {
    Vector2::new(x, y)
}

const fn vector3([x, y, z]: [real; 3]) -> Vector3 {
    Vector3::new(x, y, z)
}

const fn vector4([x, y, z, w]: [real; 4]) -> Vector4 {
    Vector4::new(x, y, z, w)
}

const fn color([red, green, blue, alpha]: [f32; 4]) -> Color {
    Color::from_rgba(red, green, blue, alpha)
}

fn basis([ax, ay, az, bx, by, bz, cx, cy, cz]: &[real; 9]) -> Basis {
    Basis::from_rows(Vector3::new(*ax, *ay, *az), Vector3::new(*bx, *by, *bz), Vector3::new(*cx, *cy, *cz))
}

fn single(number: &Value) -> Option<f32> {
    let number = number.as_f64()? as f32;
    number.is_finite().then_some(number)
}

fn real_number(number: &Value) -> Option<real> {
    let number = number.as_f64()? as real;
    number.is_finite().then_some(number)
}

fn int32(number: &Value) -> Option<i32> {
    number.as_i64()?.try_into().ok()
}

fn reals<const N: usize>(value: &Value) -> Option<[real; N]> {
    list(value, real_number)?.collect::<Option<Vec<_>>>()?.try_into().ok()
}

fn singles<const N: usize>(value: &Value) -> Option<[f32; N]> {
    list(value, single)?.collect::<Option<Vec<_>>>()?.try_into().ok()
}

fn ints<const N: usize>(value: &Value) -> Option<[i32; N]> {
    list(value, int32)?.collect::<Option<Vec<_>>>()?.try_into().ok()
}

fn list<'a, T>(
    value: &'a Value,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Option<impl Iterator<Item = Option<T>>> {
    Some(value.as_array()?.iter().map(read))
}

/// Elements of `N` numbers each.
fn each<T: Copy, const N: usize, E>(
    value: &Value,
    read: fn(&Value) -> Option<T>,
    element: fn([T; N]) -> E,
) -> Option<impl Iterator<Item = E>> {
    let numbers: Vec<T> = list(value, read)?.collect::<Option<_>>()?;
    let (elements, []) = numbers.as_chunks::<N>() else { return None };
    Some(elements.iter().map(|numbers| element(*numbers)).collect::<Vec<_>>().into_iter())
}
