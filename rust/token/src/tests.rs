//! One test per item of the verifier's checklist, with really signed tokens.

use backend_protocol::validation::access_audience;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

/// In 2096: later than any build.
const NOW: u64 = 4_000_000_000;

fn set_of(keys: &[&SigningKey]) -> KeySet {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    KeySet::from_json("us", json!({ "keys": keys }).to_string().as_bytes(), &[Algorithm::EdDSA])
        .expect("a set")
}

fn good_header(kid: &str) -> Value {
    json!({"alg": "EdDSA", "typ": "access+jwt", "kid": kid})
}

fn good_claims() -> Value {
    json!({"iss": "us", "sub": "ada", "aud": access_audience("default"), "exp": NOW + 600, "iat": NOW, "jti": "1", "name": "Ada"})
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().expect("object").remove(name);
    value
}

fn expected() -> Validation<'static> {
    Validation { kind: TokenKind::Access, audience: "game:default", now: NOW, leeway: Leeway::default() }
}

/// What is said to a well signed token whose header and claims were changed before the signature.
fn check_with(header: impl FnOnce(Value) -> Value, claims: &Value) -> Result<Claims, Rejection> {
    let key = SigningKey::generate().expect("a key");
    let header = header(good_header(key.kid())).to_string();
    let token = key.sign_parts(header.as_bytes(), claims.to_string().as_bytes()).expect("signed");
    verify(&token, &set_of(&[&key]), &expected())
}

fn check(claims: &Value) -> Result<Claims, Rejection> {
    check_with(|header| header, claims)
}

fn good_token(key: &SigningKey) -> String {
    key.sign_parts(good_header(key.kid()).to_string().as_bytes(), good_claims().to_string().as_bytes())
        .expect("signed")
}

#[test]
fn a_good_token_is_accepted() {
    assert_eq!(check(&good_claims()).expect("accepted").sub, "ada");
}

#[test]
fn what_we_issue_is_what_we_accept() {
    let key = SigningKey::generate().expect("a key");
    let kept = SigningKey::from_pkcs8(&key.to_pkcs8()).expect("read");
    let claims: Claims = serde_json::from_value(good_claims()).expect("claims");
    let token = kept.sign(TokenKind::Access, &claims).expect("signed");
    assert_eq!(verify(&token, &set_of(&[&key]), &expected()), Ok(claims));
}

#[test]
fn alg_is_that_of_the_key_and_none_is_refused_in_every_spelling() {
    for alg in ["none", "None", "NONE", "nOnE", "none ", "HS256", "RS256", "ES256", "eddsa", "Ed25519", ""] {
        let refused = check_with(|header| with(header, "alg", json!(alg)), &good_claims());
        assert_eq!(refused, Err(Rejection::WrongAlgorithm), "{alg}");
    }
    for alg in [json!(null), json!(["EdDSA"]), json!({"EdDSA": 1}), json!(8)] {
        let refused = check_with(|header| with(header, "alg", alg), &good_claims());
        assert_eq!(refused, Err(Rejection::BadHeader));
    }
    assert_eq!(check_with(|header| without(header, "alg"), &good_claims()), Err(Rejection::BadHeader));
}

#[test]
fn a_token_without_signature_is_refused() {
    let key = SigningKey::generate().expect("a key");
    let token = good_token(&key);
    let (signed, signature) = token.rsplit_once('.').expect("dots");
    let keys = set_of(&[&key]);
    assert_eq!(verify(&format!("{signed}."), &keys, &expected()), Err(Rejection::Malformed));
    assert_eq!(verify(signed, &keys, &expected()), Err(Rejection::Malformed));
    let short = format!("{signed}.{}", &signature[..signature.len() - 2]);
    assert!(verify(&short, &keys, &expected()).is_err());
    let zeros = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]));
    assert_eq!(verify(&zeros, &keys, &expected()), Err(Rejection::BadSignature));
}

#[test]
fn another_key_and_a_changed_payload_are_refused() {
    let (key, other) = (SigningKey::generate().expect("a key"), SigningKey::generate().expect("a key"));
    let header = good_header(other.kid()).to_string();
    let token = key.sign_parts(header.as_bytes(), good_claims().to_string().as_bytes()).expect("signed");
    assert_eq!(verify(&token, &set_of(&[&key, &other]), &expected()), Err(Rejection::BadSignature));

    let claims = with(good_claims(), "sub", json!("eve"));
    let token = good_token(&key);
    let parts: Vec<&str> = token.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]);
    assert_eq!(verify(&forged, &set_of(&[&key]), &expected()), Err(Rejection::BadSignature));
}

#[test]
fn keys_and_extensions_in_the_header_are_refused() {
    for name in ["crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "zip", "enc", "cty", "unknown"] {
        for value in [json!(["b64"]), json!(null), json!(true), json!({"kty": "oct"})] {
            let refused = check_with(|header| with(header, name, value), &good_claims());
            assert_eq!(refused, Err(Rejection::ForbiddenHeader), "{name}");
        }
    }
}

#[test]
fn typ_must_be_the_kind_asked_for() {
    for typ in ["JWT", "join+jwt", "logout+jwt", "ACCESS+JWT", "application/access+jwt", ""] {
        let refused = check_with(|header| with(header, "typ", json!(typ)), &good_claims());
        assert_eq!(refused, Err(Rejection::WrongType), "{typ}");
    }
    assert_eq!(check_with(|header| without(header, "typ"), &good_claims()), Err(Rejection::WrongType));
    let null = check_with(|header| with(header, "typ", json!(null)), &good_claims());
    assert_eq!(null, Err(Rejection::BadHeader));
}

#[test]
fn kid_selects_among_our_keys_and_nothing_else() {
    let long = "k".repeat(MAX_KID_BYTES + 1);
    for kid in ["k2", "../../dev/null", "'||1=1--", "/dev/null;id", "%00", "", long.as_str(), "two words"] {
        let refused = check_with(|header| with(header, "kid", json!(kid)), &good_claims());
        assert_eq!(refused, Err(Rejection::UnknownKey), "{kid}");
    }
    assert_eq!(check_with(|header| without(header, "kid"), &good_claims()), Err(Rejection::BadHeader));
    for kid in [json!(1), json!(null), json!(["k1"]), json!({})] {
        assert_eq!(check_with(|header| with(header, "kid", kid), &good_claims()), Err(Rejection::BadHeader));
    }
}

#[test]
fn every_claim_is_required_and_typed() {
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "name"] {
        assert_eq!(check(&without(good_claims(), name)), Err(Rejection::BadClaims), "{name}");
        for wrong in [json!(null), json!([]), json!({}), json!(-1), json!(1.5), json!(true), json!(["us"])] {
            let claims = with(good_claims(), name, wrong.clone());
            assert_eq!(check(&claims), Err(Rejection::BadClaims), "{name} {wrong}");
        }
    }
    for name in ["exp", "iat", "nbf"] {
        for wrong in [json!("4000000600"), json!(1e300), json!(-1), json!(4_000_000_600.5), json!(null)] {
            assert_eq!(check(&with(good_claims(), name, wrong)), Err(Rejection::BadClaims), "{name}");
        }
    }
    for name in ["iss", "sub", "aud", "jti"] {
        assert_eq!(check(&with(good_claims(), name, json!(""))), Err(Rejection::BadClaims), "{name}");
    }
}

#[test]
fn sub_and_jti_fit_where_they_are_used() {
    for sub in ["../admin", "ada\u{0}", "two words", "ada/../eve", &"a".repeat(65)] {
        assert_eq!(check(&with(good_claims(), "sub", json!(sub))), Err(Rejection::BadClaims), "{sub}");
    }
    assert_eq!(check(&with(good_claims(), "jti", json!("j".repeat(129)))), Err(Rejection::BadClaims));
}

#[test]
fn the_payload_is_one_object_of_utf8() {
    let key = SigningKey::generate().expect("a key");
    let header = good_header(key.kid()).to_string();
    let good = good_claims().to_string();
    let mut latin = good.clone().into_bytes();
    let name = good.find("Ada").expect("the name");
    latin[name] = 0xC4;
    let deep = good.replacen('{', &format!(r#"{{"x":{}{},"#, "[".repeat(200), "]".repeat(200)), 1);
    for payload in [
        b"".to_vec(),
        b"null".to_vec(),
        format!("[{good}]").into_bytes(),
        format!("{good}{good}").into_bytes(),
        format!("\u{feff}{good}").into_bytes(),
        latin,
        deep.into_bytes(),
    ] {
        let token = key.sign_parts(header.as_bytes(), &payload).expect("signed");
        assert_eq!(verify(&token, &set_of(&[&key]), &expected()), Err(Rejection::BadClaims));
    }
}

#[test]
fn the_issuer_is_that_of_the_keys() {
    for iss in ["US", "us ", "us/", "https://us"] {
        assert_eq!(check(&with(good_claims(), "iss", json!(iss))), Err(Rejection::WrongIssuer), "{iss}");
    }
}

#[test]
fn the_audience_is_exactly_us() {
    for aud in ["game:default2", "game:", "GAME:default", "server-1"] {
        assert_eq!(check(&with(good_claims(), "aud", json!(aud))), Err(Rejection::WrongAudience), "{aud}");
    }
}

#[test]
fn time_is_judged_on_both_sides() {
    let at = |iat: u64, exp: u64| check(&with(with(good_claims(), "iat", json!(iat)), "exp", json!(exp)));
    assert_eq!(at(NOW - 600, NOW - 5), Err(Rejection::Expired), "on the second, with the leeway");
    assert!(at(NOW - 600, NOW - 4).is_ok(), "within the leeway");
    assert_eq!(at(NOW + 31, NOW + 60), Err(Rejection::NotYetValid));
    assert!(at(NOW + 30, NOW + 60).is_ok(), "clocks differ");
    let not_before = |nbf: u64| check(&with(good_claims(), "nbf", json!(nbf)));
    assert_eq!(not_before(NOW + 31), Err(Rejection::NotYetValid));
    assert!(not_before(NOW + 30).is_ok());
    assert_eq!(not_before(u64::MAX), Err(Rejection::NotYetValid));
}

#[test]
fn no_token_lives_longer_than_its_kind_may() {
    let at = |iat: u64, exp: u64| check(&with(with(good_claims(), "iat", json!(iat)), "exp", json!(exp)));
    assert_eq!(at(NOW, NOW + 3_601), Err(Rejection::LifetimeTooLong));
    assert_eq!(at(NOW, NOW), Err(Rejection::LifetimeTooLong));
    assert_eq!(at(NOW, NOW - 1), Err(Rejection::LifetimeTooLong));
    assert_eq!(at(NOW, u64::MAX), Err(Rejection::LifetimeTooLong));
    assert_eq!(at(0, u64::MAX), Err(Rejection::LifetimeTooLong));

    let key = SigningKey::generate().expect("a key");
    let expectation = Validation { kind: TokenKind::Join, audience: "server-1", ..expected() };
    let ticket = |lives: u64| {
        let claims = with(with(good_claims(), "aud", json!("server-1")), "exp", json!(NOW + lives));
        let token =
            key.sign(TokenKind::Join, &serde_json::from_value(claims).expect("claims")).expect("signed");
        verify(&token, &set_of(&[&key]), &expectation)
    };
    assert!(ticket(60).is_ok());
    assert_eq!(ticket(61), Err(Rejection::LifetimeTooLong));
}

#[test]
fn the_leeway_is_bounded() {
    assert_eq!(Leeway::default().seconds(), 5);
    assert!(Leeway::from_seconds(31).is_err());
    let expired = with(with(good_claims(), "iat", json!(NOW - 600)), "exp", json!(NOW - 20));
    let key = SigningKey::generate().expect("a key");
    let token =
        key.sign(TokenKind::Access, &serde_json::from_value(expired).expect("claims")).expect("signed");
    let of = |seconds| Validation { leeway: Leeway::from_seconds(seconds).expect("allowed"), ..expected() };
    assert!(verify(&token, &set_of(&[&key]), &of(30)).is_ok());
    assert_eq!(verify(&token, &set_of(&[&key]), &of(20)), Err(Rejection::Expired));
    assert_eq!(verify(&token, &set_of(&[&key]), &of(0)), Err(Rejection::Expired));
}

#[test]
fn a_clock_that_is_not_set_judges_nothing() {
    let key = SigningKey::generate().expect("a key");
    let token = good_token(&key);
    for now in [0, 10, 59, 1_735_689_600] {
        let expectation = Validation { now, ..expected() };
        assert_eq!(verify(&token, &set_of(&[&key]), &expectation), Err(Rejection::ClockNotSet));
    }
    let last = Validation { now: u64::MAX, ..expected() };
    assert_eq!(verify(&token, &set_of(&[&key]), &last), Err(Rejection::Expired));
}

#[test]
fn doubled_members_are_refused() {
    let key = SigningKey::generate().expect("a key");
    let keys = set_of(&[&key]);
    let (header, claims) = (good_header(key.kid()).to_string(), good_claims().to_string());
    // Some are the same member, spelt with an escape; some are no members of ours; the last are below the top.
    for doubled in [
        r#"{"sub":"eve","#,
        r#"{"s\u0075b":"eve","#,
        r#"{"nbf":1,"nbf":1,"#,
        r#"{"x":1,"x":1,"#,
        r#"{"x":1,"\u0078":null,"#,
        r#"{"x":{"y":1,"y":1},"#,
        r#"{"x":[{"y":1,"y":1}],"#,
    ] {
        let token =
            key.sign_parts(header.as_bytes(), claims.replacen('{', doubled, 1).as_bytes()).expect("signed");
        assert_eq!(verify(&token, &keys, &expected()), Err(Rejection::BadClaims), "{doubled}");
    }
    for doubled in [
        r#"{"alg":"none","#,
        r#"{"kid":"k2","#,
        r#"{"k\u0069d":"k2","#,
        r#"{"x":1,"x":1,"#,
        r#"{"typ":null,"#,
    ] {
        let token =
            key.sign_parts(header.replacen('{', doubled, 1).as_bytes(), claims.as_bytes()).expect("signed");
        assert_eq!(verify(&token, &keys, &expected()), Err(Rejection::BadHeader), "{doubled}");
    }
}

#[test]
fn shape_and_alphabet_are_strict() {
    let key = SigningKey::generate().expect("a key");
    let keys = set_of(&[&key]);
    let token = good_token(&key);
    let json = format!(r#"{{"payload":"{token}","signatures":[]}}"#);
    for bad in [
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}="),
        format!("{token}.x"),
        format!("{token}.."),
        token.replacen('.', "..", 1),
        token.replacen('e', "e\u{200b}", 1),
        format!("?{token}"),
        json,
        "..".into(),
        ".".into(),
        String::new(),
    ] {
        assert_eq!(verify(&bad, &keys, &expected()), Err(Rejection::Malformed), "{bad:?}");
    }
}

#[test]
fn base64_has_one_spelling() {
    let key = SigningKey::generate().expect("a key");
    let token = good_token(&key);
    // 64 bytes leave four unused bits in the last character: only zeros are canonical.
    let last = token.chars().last().expect("characters");
    for sibling in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
        let respelt = format!("{}{sibling}", &token[..token.len() - 1]);
        assert_eq!(verify(&respelt, &set_of(&[&key]), &expected()).is_ok(), sibling == last, "{sibling}");
    }
}

#[test]
fn length_is_looked_at_first() {
    let token = "a".repeat(MAX_TOKEN + 1);
    assert_eq!(verify(&token, &KeySet::default(), &expected()), Err(Rejection::TooLong));
}

#[test]
fn encrypted_tokens_are_refused() {
    // Five parts (RFC 7516 §3.1).
    assert_eq!(verify("eyJ9.YQ.YQ.YQ.YQ", &KeySet::default(), &expected()), Err(Rejection::Malformed));
}

proptest::proptest! {
    #[test]
    fn no_input_panics(token in "\\PC{0,200}") {
        proptest::prop_assert!(verify(&token, &KeySet::default(), &expected()).is_err());
    }

    #[test]
    fn no_json_of_any_kind_is_taken_for_claims(payload in "[{}\\[\\]\",:0-9a-z\\\\ ]{0,100}") {
        let key = SigningKey::generate().expect("a key");
        let token = key.sign_parts(good_header(key.kid()).to_string().as_bytes(), payload.as_bytes()).expect("signed");
        proptest::prop_assert!(verify(&token, &set_of(&[&key]), &expected()).is_err());
    }

    #[test]
    fn no_changed_byte_is_accepted(position in 0usize..1_000, flip in 1u8..128) {
        let key = SigningKey::generate().expect("a key");
        let mut bytes = good_token(&key).into_bytes();
        let position = position % bytes.len();
        bytes[position] ^= flip;
        if let Ok(changed) = String::from_utf8(bytes) {
            proptest::prop_assert!(verify(&changed, &set_of(&[&key]), &expected()).is_err());
        }
    }

    #[test]
    fn time_is_a_window(iat in 0u64..7_200, life in 1u64..4_000, now in 0u64..7_200) {
        let (iat, now) = (NOW + iat, NOW + now);
        let key = SigningKey::generate().expect("a key");
        let claims = with(with(good_claims(), "iat", json!(iat)), "exp", json!(iat + life));
        let token = key.sign(TokenKind::Access, &serde_json::from_value(claims).expect("claims")).expect("signed");
        let good = life <= 3_600 && iat <= now + 30 && now < iat + life + 5;
        let verified = verify(&token, &set_of(&[&key]), &Validation { now, ..expected() });
        proptest::prop_assert_eq!(verified.is_ok(), good);
    }
}
