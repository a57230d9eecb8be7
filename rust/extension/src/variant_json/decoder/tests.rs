use backend_client::player_store::is_identical;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::variant_json::equality::equal_side_by_side;
use crate::variant_json::{Encoding, decoder, equality, error::JsonError, size, typed_value, writer};

/// What Godot 4.6.3 wrote of these.
const OF_THE_ENGINE: [(&str, &str); 8] = [
    ("1b000000010000000400000001000000610000000200000001000000", r#"{"a":1}"#),
    // Dictionary[String, int], Dictionary[String, Variant], Dictionary[String, Node].
    ("1b0005000400000002000000010000000400000001000000610000000200000001000000", r#"{"a":1}"#),
    ("1b00010004000000010000000400000001000000610000000200000001000000", r#"{"a":1}"#),
    (
        "1b0009000400000011000000456e636f6465644f626a656374417349440000000100000004000000010000006100000000000000",
        r#"{"a":null}"#,
    ),
    // A float that needs 64 bits, an int that does.
    ("1b00000001000000150000000100000061000000030001009a9999999999b93f", r#"{"a":0.1}"#),
    ("1b00000001000000150000000100000061000000020001000100000000002000", r#"{"a":9007199254740993}"#),
    // NodePaths.
    (
        "1b0000000100000004000000010000006100000016000000020000800200000000000000\
         0100000061000000010000006200000001000000630000000100000064000000",
        r#"{"a":"a/b:c:d"}"#,
    ),
    (
        "1b000000010000000400000001000000610000001600000002000080000000000100000004000000726f6f740100000078000000",
        r#"{"a":"/root/x"}"#,
    ),
];

fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    decoder::object(bytes, Encoding::Plain)
}

fn size_of(bytes: &[u8]) -> Result<usize, JsonError> {
    size::size(bytes, Encoding::Plain)
}

fn text_of(bytes: &[u8]) -> Result<String, JsonError> {
    writer::text(bytes, Encoding::Plain, 0)
}

fn equals(bytes: &[u8], known: &Map<String, Value>) -> bool {
    equality::equals(bytes, Encoding::Plain, known)
}

const NIL: u32 = 0;
const BOOL: u32 = 1;
const INT: u32 = 2;
const FLOAT: u32 = 3;
const STRING: u32 = 4;
const STRING_NAME: u32 = 21;
const OBJECT: u32 = 24;
const DICTIONARY: u32 = 27;
const ARRAY: u32 = 28;
const WIDE: u32 = 1 << 16;

#[test]
fn what_the_engine_wrote_is_read() {
    for (hex, json) in OF_THE_ENGINE {
        let read = object(&bytes(hex)).unwrap_or_else(|unfit| panic!("{json}: {unfit}"));
        assert_eq!(Value::Object(read).to_string(), json);
    }
    let lists = [
        ("1d0000000300000001020300", json!([1, 2, 3])),
        ("1e00000002000000ffffffff02000000", json!([-1, 2])),
        ("1f00000002000000ffffffffffffffff0200000000000000", json!([-1, 2])),
        ("20000000010000000000803f", json!([1.0])),
        ("2100000001000000000000000000f03f", json!([1.0])),
        (
            "220000000300000002000000610000000500000061626364000000000100000000000000",
            json!(["a", "abcd", ""]),
        ),
        // Array[int], Array[Node].
        ("1c00010002000000010000000200000001000000", json!([1])),
        ("1c00020011000000456e636f6465644f626a6563744173494400000000000000", json!([])),
    ];
    for (hex, list) in lists {
        assert_eq!(object(&member("a", &bytes(hex))), Ok(json_object(json!({ "a": list }))), "{hex}");
    }
}

#[test]
fn a_refusal_names_the_place() {
    let of = |value: &[u8]| object(&member("a", value)).expect_err("refused").to_string();
    let vector = [word(5), vec![0; 8]].concat();
    assert_eq!(
        of(&vector),
        "value.a JSON has no VECTOR2; convert it first, or turn backend_client/documents/godot_types on"
    );
    let object_id = [word(OBJECT | WIDE), vec![1; 8]].concat();
    let list = [word(ARRAY), word(2), word(NIL), object_id].concat();
    assert_eq!(of(&list), "value.a[1] OBJECT cannot be saved; convert it first");
    let nan = [word(FLOAT | WIDE), f64::NAN.to_le_bytes().to_vec()].concat();
    assert_eq!(of(&nan), "value.a must be a finite number");
    let by_number = [word(DICTIONARY), word(1), word(INT), word(7), word(NIL)].concat();
    assert_eq!(of(&by_number), "value.a keys must be strings, 7 is INT");
    let latin = [word(STRING), word(1), vec![0xe4, 0, 0, 0]].concat();
    assert_eq!(of(&latin), "value.a must be valid text");
}

#[test]
fn the_deepest_that_is_read() {
    let nested = |levels| (0..levels).fold(word(NIL), |inner, _| [word(ARRAY), word(1), inner].concat());
    assert!(object(&member("a", &nested(63))).is_ok());
    let unfit = object(&member("a", &nested(64))).expect_err("too deep").to_string();
    assert!(unfit.ends_with("is nested more than 64 levels deep"), "{unfit}");
    let hostile = nested(100_000);
    assert!(object(&member("a", &hostile)).is_err());
    for (levels, is_fit) in [(63, true), (64, false), (100_000, false)] {
        assert_eq!(size_of(&member("a", &nested(levels))).is_ok(), is_fit, "{levels}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let valid = member("a", &[word(INT), word(1)].concat());
    assert!(object(&valid).is_ok());
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("something behind it", [valid.clone(), word(0)].concat()),
        ("no Dictionary", [word(INT), word(1)].concat()),
        ("an unknown type", member("a", &word(200))),
        ("an unknown flag of a type", member("a", &[word(STRING | WIDE), word(0)].concat())),
        ("an unknown flag of an int", member("a", &[word(INT | 2 << 16), word(0)].concat())),
        ("an unknown flag of a Dictionary", [word(DICTIONARY | 1 << 20), word(0)].concat()),
        ("a bool of 2", member("a", &[word(BOOL), word(2)].concat())),
        ("more members than bytes", [word(DICTIONARY), word(u32::MAX)].concat()),
        ("more elements than bytes", member("a", &[word(ARRAY), word(u32::MAX)].concat())),
        ("a longer string than bytes", member("a", &[word(STRING), word(u32::MAX)].concat())),
        ("padding with something in it", member("a", &[word(STRING), word(1), vec![b'x', 1, 0, 0]].concat())),
    ] {
        assert!(object(&bytes).is_err(), "{what}");
        assert!(size_of(&bytes).is_err(), "{what}");
    }
}

#[test]
fn numbers_are_told_apart_bit_for_bit() {
    let real = |value: f64| member("a", &[word(FLOAT | WIDE), value.to_le_bytes().to_vec()].concat());
    let whole = member("a", &[word(INT), word(3)].concat());
    let known = |value: Value| json_object(json!({ "a": value }));
    assert_eq!(text_of(&real(3.0)).as_deref(), Ok(r#"{"a":3.0}"#));
    assert!(equals(&real(3.0), &known(json!(3.0))) && equals(&whole, &known(json!(3))));
    assert!(!equals(&real(3.0), &known(json!(3))) && !equals(&whole, &known(json!(3.0))));
    assert!(!equals(&real(-0.0), &known(json!(0.0))) && !equals(&real(0.0), &known(json!(-0.0))));
    assert_eq!(equal_side_by_side(&real(0.0), &real(-0.0)), Some(false));
    // Left to the slower comparison, which tells them apart.
    assert_eq!(equal_side_by_side(&real(3.0), &whole), None);
}

/// Values that JSON does not have, in the format of the engine, and what becomes of them.
#[test]
fn values_of_godot_name_their_type() {
    let floats =
        |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let vector = [word(5), floats(&[0.1, -2.0])].concat();
    let wide = [word(0x5 | WIDE), 0.1f64.to_le_bytes().to_vec(), 2f64.to_le_bytes().to_vec()].concat();
    let bytes_of = [word(29), word(5), vec![1, 2, 3, 254, 255, 0, 0, 0]].concat();
    let vectors = [word(35), word(2), floats(&[1.0, 2.0, 3.0, 0.3])].concat();
    let path = bytes("160000000100008000000000010000000100000061000000");
    for (value, json) in [
        (vector, json!({"$godot": "Vector2", "value": [0.1, -2.0]})),
        (wide, json!({"$godot": "Vector2", "value": [0.1, 2.0]})),
        (
            [word(10), [1i32, -2, 3].iter().flat_map(|number| number.to_le_bytes()).collect()].concat(),
            json!({"$godot": "Vector3i", "value": [1, -2, 3]}),
        ),
        (
            [word(20), floats(&[1.0, 0.5, 0.0, 1.0])].concat(),
            json!({"$godot": "Color", "value": [1.0, 0.5, 0.0, 1.0]}),
        ),
        (bytes_of, json!({"$godot": "PackedByteArray", "value": "AQID/v8="})),
        (vectors, json!({"$godot": "PackedVector2Array", "value": [1.0, 2.0, 3.0, 0.3]})),
        (path, json!({"$godot": "NodePath", "value": "/a"})),
    ] {
        let encoded = member("a", &value);
        let expected = json_object(json!({ "a": json }));
        assert_eq!(decoder::object(&encoded, Encoding::Typed), Ok(expected.clone()));
        let text = writer::text(&encoded, Encoding::Typed, 0).expect("text");
        assert_eq!(text, serde_json::to_string(&expected).expect("text"));
        assert_eq!(size::size(&encoded, Encoding::Typed), Ok(text.len()));
        assert!(equality::equals(&encoded, Encoding::Typed, &expected), "{text}");
    }
    let nan = member("a", &[word(5), floats(&[f32::NAN, 0.0])].concat());
    let refused = decoder::object(&nan, Encoding::Typed).expect_err("refused").to_string();
    assert_eq!(refused, "value.a[0] must be a finite number");
    let color = member("a", &[word(0x14 | WIDE), vec![0; 32]].concat());
    assert!(decoder::object(&color, Encoding::Typed).is_err(), "a Color has no wide form");
}

/// A Dictionary of a game that looks like such a value stays a Dictionary.
#[test]
fn the_mark_in_a_dictionary_is_escaped() {
    for (key, written) in [
        ("$godot", "$$godot"),
        ("$$godot", "$$$godot"),
        ("godot", "godot"),
        ("$", "$"),
        ("$godots", "$godots"),
    ] {
        let encoded = member(key, &word(NIL));
        let expected = json_object(json!({ written: null }));
        assert_eq!(decoder::object(&encoded, Encoding::Typed), Ok(expected.clone()));
        assert!(equality::equals(&encoded, Encoding::Typed, &expected), "{key}");
        assert_eq!(typed_value::without_escape(written), key);
        assert_eq!(object(&encoded), Ok(json_object(json!({ key: null }))), "plain JSON has no escapes");
    }
}

#[test]
fn a_number_of_32_bits_has_its_fewest_digits() {
    for number in [0.1, -0.0, 1.0, 16_777_217.0, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 1e-45, 0.333_333_34] {
        let wide = super::widened(number);
        assert_eq!((wide as f32).to_bits(), number.to_bits(), "{number}");
        assert!(wide.to_string().len() <= f64::from(number).to_string().len(), "{number}");
    }
    assert_eq!(super::widened(0.1).to_string(), "0.1");
    assert!(super::widened(f32::INFINITY).is_infinite() && super::widened(f32::NAN).is_nan());
}

proptest! {
    /// All readings agree with serde_json's idea of the same.
    #[test]
    fn what_is_written_is_read(written in any_object(), other in any_object(), names: bool) {
        let bytes = encoded(&Value::Object(written.clone()), names);
        prop_assert_eq!(object(&bytes), Ok(written.clone()));
        prop_assert_eq!(size_of(&bytes), Ok(serde_json::to_string(&written)?.len()));
        prop_assert!(equals(&bytes, &written));
        prop_assert_eq!(equals(&bytes, &other), is_identical(&written, &other));
        let text = text_of(&bytes).map_err(|unfit| TestCaseError::fail(unfit.to_string()))?;
        prop_assert_eq!(text, serde_json::to_string(&written)?);
    }

    /// Reading side by side gives the same result as comparing trees, or none.
    #[test]
    fn equal_documents_are_equal_side_by_side(written in any_object(), other in any_object(), names: bool) {
        let one = encoded(&Value::Object(written.clone()), names);
        let again = encoded(&Value::Object(written.clone()), !names);
        prop_assert_eq!(equal_side_by_side(&one, &one), Some(true));
        prop_assert_eq!(equal_side_by_side(&one, &again), Some(true));
        let result = equal_side_by_side(&one, &encoded(&Value::Object(other.clone()), names));
        prop_assert!(result.is_none_or(|result| result == is_identical(&written, &other)), "{:?}", result);
        let mut more = written.clone();
        more.insert("one more".into(), Value::Null);
        prop_assert_eq!(equal_side_by_side(&one, &encoded(&Value::Object(more), names)), Some(false));
    }

    /// Equal documents in another order are not decided side by side.
    #[test]
    fn another_order_is_left_open(one in any::<i32>(), other in any::<i32>()) {
        let pair = |key: &str, value: i32| [key_of(key), word(INT), value.to_le_bytes().to_vec()].concat();
        let (a, b) = (pair("a", one), pair("b", other));
        let ordered = [word(DICTIONARY), word(2), a.clone(), b.clone()].concat();
        let turned = [word(DICTIONARY), word(2), b, a].concat();
        prop_assert_eq!(equal_side_by_side(&ordered, &turned), None);
        prop_assert_eq!(object(&ordered), object(&turned));
    }

    #[test]
    fn a_change_is_noticed(written in any_object(), at: prop::sample::Index, added: i64) {
        let bytes = encoded(&Value::Object(written.clone()), false);
        let mut more = written.clone();
        more.insert("added".into(), added.into());
        prop_assert_eq!(equals(&bytes, &more), more == written);
        if !written.is_empty() {
            let mut fewer = written.clone();
            let key = written.keys().nth(at.index(written.len())).cloned().unwrap_or_default();
            fewer.remove(&key);
            prop_assert!(!equals(&bytes, &fewer));
            fewer.insert(key.clone(), json!([written[&key]]));
            prop_assert!(!equals(&bytes, &fewer));
        }
    }

    /// What is counted on the main thread can be built on another one.
    #[test]
    fn damage_is_refused_by_all_or_by_none(
        written in any_object(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end: prop::sample::Index,
        cut: bool,
    ) {
        let mut bytes = encoded(&Value::Object(written), false);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        agree(&bytes)?;
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        agree(&noise)?;
        agree(&[word(DICTIONARY), noise].concat())?;
    }

    /// Small words are types, counts and flags: these get far.
    #[test]
    fn likely_noise_never_panics(noise in prop::collection::vec(0u32..40, 0..64)) {
        let noise: Vec<u8> = noise.into_iter().flat_map(u32::to_le_bytes).collect();
        agree(&[word(DICTIONARY), noise].concat())?;
    }
}

/// In both encodings.
fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    agree_as(bytes, Encoding::Plain)?;
    agree_as(bytes, Encoding::Typed)
}

fn agree_as(bytes: &[u8], encoding: Encoding) -> Result<(), TestCaseError> {
    let object = |bytes| decoder::object(bytes, encoding);
    let text = writer::text(bytes, encoding, 0);
    match (&text, object(bytes)) {
        (Ok(text), Ok(object)) => prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(text)?, object),
        (Err(unwritten), Err(unbuilt)) => prop_assert_eq!(unwritten, &unbuilt),
        (text, object) => prop_assert!(false, "{text:?}, but {object:?}"),
    }
    prop_assert_eq!(equal_side_by_side(bytes, bytes), Some(true));
    match (object(bytes), size::size(bytes, encoding)) {
        // Of a key that is there twice, the last counts: only the size knows of both.
        (Ok(object), Ok(size)) => prop_assert!(size >= serde_json::to_string(&object)?.len()),
        (Err(built), Err(measured)) => prop_assert_eq!(built, measured),
        (built, measured) => prop_assert!(false, "{built:?}, but {measured:?}"),
    }
    Ok(())
}

fn any_object() -> impl Strategy<Value = Map<String, Value>> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        (-20i64..20).prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        any::<f32>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x20\"\\\\]{0,6}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\n]{0,5}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-zü]{0,5}", value, 0..6).prop_map(|members| members.into_iter().collect())
}

/// As the engine writes it; with `names`, texts are StringNames.
fn encoded(value: &Value, names: bool) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = word(if names { STRING_NAME } else { STRING });
        bytes.extend(word(text.len() as u32));
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    match value {
        Value::Null => word(NIL),
        Value::Bool(flag) => [word(BOOL), word(u32::from(*flag))].concat(),
        Value::String(string) => text(string),
        Value::Number(number) => match (number.as_i64(), number.as_f64().unwrap_or_default()) {
            (Some(whole), _) => match i32::try_from(whole) {
                Ok(small) => [word(INT), small.to_le_bytes().to_vec()].concat(),
                Err(_) => [word(INT | WIDE), whole.to_le_bytes().to_vec()].concat(),
            },
            (None, real) if f64::from(real as f32).to_bits() == real.to_bits() => {
                [word(FLOAT), (real as f32).to_le_bytes().to_vec()].concat()
            }
            (None, real) => [word(FLOAT | WIDE), real.to_le_bytes().to_vec()].concat(),
        },
        Value::Array(items) => {
            let items = items.iter().flat_map(|item| encoded(item, names));
            [word(ARRAY), word(items_of(value)), items.collect()].concat()
        }
        Value::Object(members) => {
            let members = members.iter().flat_map(|(key, value)| [text(key), encoded(value, names)].concat());
            [word(DICTIONARY), word(items_of(value)), members.collect()].concat()
        }
    }
}

fn items_of(value: &Value) -> u32 {
    value.as_array().map_or_else(|| value.as_object().map_or(0, Map::len), Vec::len) as u32
}

/// A Dictionary with one member.
fn member(key: &str, value: &[u8]) -> Vec<u8> {
    [word(DICTIONARY), word(1), key_of(key), value.to_vec()].concat()
}

fn key_of(key: &str) -> Vec<u8> {
    let mut bytes = [word(STRING), word(key.len() as u32)].concat();
    bytes.extend(key.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn word(word: u32) -> Vec<u8> {
    word.to_le_bytes().to_vec()
}

fn json_object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
