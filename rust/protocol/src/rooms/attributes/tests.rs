use super::*;

fn of(json: &str) -> Result<Attributes, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn types_survive() {
    let json = r#"{"a":3.0,"b":3,"c":true,"d":"3","e":-9223372036854775808,"f":1e300}"#;
    let attributes = of(json).expect("parses");
    assert_eq!(attributes["a"], AttributeValue::Float(3.0));
    assert_eq!(attributes["b"], AttributeValue::Int(3));
    assert_eq!(attributes["e"], AttributeValue::Int(i64::MIN));
    let written = serde_json::to_string(&attributes).expect("writes");
    assert_eq!(of(&written).expect("parses again"), attributes);
    assert!(written.contains(r#""a":3.0,"b":3,"#), "{written}");
}

#[test]
fn what_is_no_attribute_is_refused() {
    for json in [r#"{"a":null}"#, r#"{"a":[1]}"#, r#"{"a":{}}"#, r#"{"a":9223372036854775808}"#] {
        assert!(of(json).is_err(), "{json}");
    }
}

#[test]
fn limits_name_the_attribute() {
    let field =
        |attributes: Attributes| check_attributes("attributes", &attributes).map_err(|error| error.field);
    let one = |name: &str, value: AttributeValue| Attributes::from([(name.to_owned(), value)]);
    let text = |length: usize| AttributeValue::String("x".repeat(length));
    assert_eq!(field(one("a.b-c_D", text(256))), Ok(()));
    assert_eq!(field(one("a", text(257))), Err("attributes.a".into()));
    assert_eq!(field(one("a", AttributeValue::Float(f64::NAN))), Err("attributes.a".into()));
    assert_eq!(field(one("a", AttributeValue::String("\0".into()))), Err("attributes.a".into()));
    for name in ["", "a b", "ä", &"x".repeat(33)] {
        assert_eq!(field(one(name, text(1))), Err("attributes".into()), "{name}");
    }
    let many = |count: usize, length: usize| {
        (0..count).map(|index| (format!("a{index:02}"), text(length))).collect()
    };
    assert_eq!(field(many(32, 50)), Ok(()));
    assert_eq!(field(many(33, 1)), Err("attributes".into()), "too many");
    assert_eq!(field(many(32, 60)), Err("attributes".into()), "too large");
}
