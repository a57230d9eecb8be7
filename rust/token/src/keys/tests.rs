//! Which published keys are used, one test per rule.

use serde_json::json;

use super::*;
use crate::SigningKey;

/// RFC 7515 appendix A.2 and A.3.
fn rsa() -> Value {
    json!({"kty": "RSA", "kid": "r1", "alg": "RS256", "use": "sig", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"})
}

fn p256() -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": "e1", "alg": "ES256", "use": "sig",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
}

fn ed25519() -> Value {
    serde_json::to_value(SigningKey::generate().expect("a key").jwk()).expect("JSON")
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().expect("object").remove(name);
    value
}

fn read(jwk: &Value) -> Result<Algorithm, KeyRejection> {
    VerificationKey::from_jwk(jwk.as_object().expect("object"), Algorithm::ALL)
        .map(|(_, key)| key.algorithm())
}

fn set(keys: &[Value]) -> Result<KeySet, KeySetRejection> {
    KeySet::from_json("us", json!({ "keys": keys }).to_string().as_bytes(), Algorithm::ALL)
}

#[test]
fn fit_keys_are_taken() {
    assert_eq!(read(&ed25519()), Ok(Algorithm::EdDSA));
    assert_eq!(read(&p256()), Ok(Algorithm::ES256));
    assert_eq!(read(&rsa()), Ok(Algorithm::RS256));
    assert_eq!(read(&without(rsa(), "use")), Ok(Algorithm::RS256));
    assert_eq!(read(&with(rsa(), "key_ops", json!(["verify"]))), Ok(Algorithm::RS256));
    assert_eq!(set(&[ed25519(), p256(), rsa()]).expect("a set").len(), 3);
}

#[test]
fn the_issuer_may_use_only_what_the_caller_allows() {
    let jwk = rsa();
    let read = VerificationKey::from_jwk(jwk.as_object().expect("object"), &[Algorithm::EdDSA]);
    assert_eq!(read.map(|_| ()), Err(KeyRejection::Algorithm));
}

#[test]
fn secrets_are_refused() {
    for name in SECRET_MEMBERS {
        assert_eq!(read(&with(rsa(), name, json!("AQAB"))), Err(KeyRejection::Secret), "{name}");
    }
    assert_eq!(read(&with(ed25519(), "kty", json!("oct"))), Err(KeyRejection::Secret));
}

#[test]
fn a_key_is_for_signatures() {
    for usage in [json!("enc"), json!("SIG"), json!(null), json!(["sig"])] {
        assert_eq!(read(&with(rsa(), "use", usage)), Err(KeyRejection::Purpose));
    }
    for operations in [json!(["encrypt"]), json!([]), json!("verify"), json!(null)] {
        assert_eq!(read(&with(rsa(), "key_ops", operations)), Err(KeyRejection::Purpose));
    }
}

#[test]
fn every_key_names_its_one_algorithm() {
    assert_eq!(read(&without(rsa(), "alg")), Err(KeyRejection::Algorithm));
    for alg in ["none", "HS256", "RSA1_5", "ES521", "ES224", "eddsa", ""] {
        assert_eq!(read(&with(rsa(), "alg", json!(alg))), Err(KeyRejection::Algorithm), "{alg}");
    }
    assert_eq!(read(&with(rsa(), "alg", json!("ES256"))), Err(KeyRejection::KeyType));
    assert_eq!(read(&with(p256(), "alg", json!("EdDSA"))), Err(KeyRejection::KeyType));
    assert_eq!(read(&with(p256(), "crv", json!("P-384"))), Err(KeyRejection::KeyType));
    assert_eq!(read(&with(p256(), "kty", json!("RSA"))), Err(KeyRejection::KeyType));
    assert_eq!(read(&with(ed25519(), "crv", json!("X25519"))), Err(KeyRejection::KeyType));
    assert_eq!(read(&with(rsa(), "crv", json!("P-256"))), Err(KeyRejection::KeyType));
}

#[test]
fn numbers_are_whole_and_canonical() {
    for x in ["", "AAAA", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=", "not base64!"] {
        assert_eq!(read(&with(p256(), "x", json!(x))), Err(KeyRejection::Encoding), "{x}");
        assert_eq!(read(&with(ed25519(), "x", json!(x))), Err(KeyRejection::Encoding), "{x}");
    }
    assert_eq!(read(&without(p256(), "y")), Err(KeyRejection::Encoding));
    assert_eq!(read(&with(rsa(), "e", json!("AAEAAQ"))), Err(KeyRejection::Encoding), "a leading zero");
    assert_eq!(read(&with(rsa(), "n", json!(65_537))), Err(KeyRejection::Encoding));
}

#[test]
fn a_point_lies_on_its_curve() {
    assert_eq!(read(&with(p256(), "y", p256()["x"].clone())), Err(KeyRejection::Invalid));
}

#[test]
fn weak_rsa_is_refused() {
    let number = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
    let modulus = URL_SAFE_NO_PAD.decode(rsa()["n"].as_str().expect("text")).expect("base64");
    assert_eq!(read(&with(rsa(), "n", number(&modulus[128..]))), Err(KeyRejection::RsaSize));
    assert_eq!(read(&with(rsa(), "n", number(&modulus.repeat(5)))), Err(KeyRejection::RsaSize));
    for e in [&[1][..], &[2], &[1, 0, 0], &[0xFF; 5]] {
        assert_eq!(read(&with(rsa(), "e", number(e))), Err(KeyRejection::RsaNumbers), "{e:?}");
    }
    let even: Vec<u8> = [&modulus[..255], &[0]].concat();
    assert_eq!(read(&with(rsa(), "n", number(&even))), Err(KeyRejection::RsaNumbers));
}

#[test]
fn moduli_of_the_flawed_generator_are_refused() {
    // Every power of 65537 has the fingerprint; the 128th has 2,049 bits.
    let power = (0..128).fold(vec![1_u8], |power, _| times_65537(&power));
    assert_eq!(power.len(), 257);
    assert_eq!(read(&with(rsa(), "n", json!(URL_SAFE_NO_PAD.encode(power)))), Err(KeyRejection::Roca));
}

/// Big-endian: the number, plus itself moved by two bytes.
fn times_65537(number: &[u8]) -> Vec<u8> {
    let moved = [number, &[0, 0]].concat();
    let own = [&[0, 0], number].concat();
    let mut carry = 0;
    let mut digits: Vec<u8> = (0..moved.len())
        .rev()
        .map(|at| {
            let sum = u16::from(moved[at]) + u16::from(own[at]) + carry;
            carry = sum >> 8;
            (sum & 0xFF) as u8
        })
        .collect();
    digits.reverse();
    digits
}

#[test]
fn a_name_is_short_and_printable() {
    let long = "k".repeat(MAX_KID_BYTES + 1);
    for kid in [json!(""), json!("two words"), json!("k\u{0}"), json!(long), json!(1), json!(null)] {
        assert_eq!(read(&with(rsa(), "kid", kid)), Err(KeyRejection::KeyId));
    }
    assert_eq!(read(&without(rsa(), "kid")), Err(KeyRejection::KeyId));
}

#[test]
fn a_name_of_two_different_keys_leaves_out_both() {
    let named = |kid: &str| with(ed25519(), "kid", json!(kid));
    let other = with(p256(), "kid", json!("a"));
    let keys = set(&[named("a"), other, named("b"), named("a")]).expect("a set");
    assert_eq!(keys.kids().collect::<Vec<_>>(), ["b"]);
    // The other may be unfit: nothing says which was meant.
    let unfit = with(named("c"), "use", json!("enc"));
    assert!(set(&[named("c"), unfit]).expect("a set").is_empty());
}

#[test]
fn the_same_key_listed_twice_is_one_key() {
    let named = |kid: &str| with(ed25519(), "kid", json!(kid));
    let twice = named("a");
    let keys = set(&[twice.clone(), named("b"), twice.clone(), twice]).expect("a set");
    assert_eq!(keys.kids().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_set_is_bounded_and_well_formed() {
    let of = |text: &str| KeySet::from_json("us", text.as_bytes(), Algorithm::ALL).map(|set| set.len());
    for bad in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[]}x"#,
    ] {
        assert_eq!(of(bad), Err(KeySetRejection::Malformed), "{bad}");
    }
    assert_eq!(of(r#"{"keys":[null,1,"x",[],{}]}"#), Ok(0), "unfit keys are left out");
    assert_eq!(of(&" ".repeat(MAX_KEY_SET_BYTES + 1)), Err(KeySetRejection::TooLong));
    let many: Vec<Value> = (0..=MAX_KEYS).map(|_| ed25519()).collect();
    assert_eq!(set(&many).map(|set| set.len()), Err(KeySetRejection::TooManyKeys));
    assert_eq!(set(&many[1..]).map(|set| set.len()), Ok(MAX_KEYS));
}

#[test]
fn a_doubled_member_of_a_key_spoils_the_set() {
    let key = ed25519().to_string().replacen('{', r#"{"x":"AAAA","#, 1);
    let document = format!(r#"{{"keys":[{key}]}}"#);
    let read = KeySet::from_json("us", document.as_bytes(), Algorithm::ALL);
    assert_eq!(read.map(|set| set.len()), Err(KeySetRejection::Malformed));
}

proptest::proptest! {
    #[test]
    fn no_document_panics(document in "\\PC{0,300}") {
        proptest::prop_assert!(KeySet::from_json("us", document.as_bytes(), Algorithm::ALL).is_err());
    }
}
