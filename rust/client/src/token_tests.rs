//! One test per item of the verifier's checklist, with really signed tokens.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

const NOW: u64 = 1_800_000_000;

pub struct Signer {
    pair: Ed25519KeyPair,
}

impl Signer {
    pub fn new() -> Self {
        Self { pair: Ed25519KeyPair::generate().expect("key") }
    }

    pub fn jwk(&self, kid: &str) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
            kid: kid.into(),
            alg: "EdDSA".into(),
            usage: "sig".into(),
        }
    }

    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }
}

fn good_header() -> Value {
    json!({"alg": "EdDSA", "typ": "access+jwt", "kid": "k1"})
}

fn good_claims() -> Value {
    json!({"iss": "us", "sub": "ada", "aud": "game:default", "exp": NOW + 600, "iat": NOW, "jti": "1", "name": "Ada"})
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().expect("object").remove(name);
    value
}

fn expected() -> Expectation<'static> {
    Expectation { kind: TokenKind::Access, issuer: "us", audience: "game:default", now: NOW }
}

fn check(header: &Value, claims: &Value) -> Result<Claims, Rejection> {
    let signer = Signer::new();
    verify(&signer.sign(header, claims), &KeySet::from_jwks(&[signer.jwk("k1")]), &expected())
}

#[test]
fn a_good_token_is_accepted() {
    assert_eq!(check(&good_header(), &good_claims()).expect("accepted").sub, "ada");
}

#[test]
fn alg_none_is_refused_in_every_spelling() {
    for alg in ["none", "None", "NONE", "nOnE", "HS256", "RS256", "eddsa", "Ed25519", ""] {
        let header = with(good_header(), "alg", json!(alg));
        assert_eq!(check(&header, &good_claims()), Err(Rejection::WrongAlgorithm), "{alg}");
    }
}

#[test]
fn a_token_without_signature_is_refused() {
    let signer = Signer::new();
    let keys = KeySet::from_jwks(&[signer.jwk("k1")]);
    let token = signer.sign(&good_header(), &good_claims());
    let (signed, _) = token.rsplit_once('.').expect("dots");
    assert_eq!(verify(&format!("{signed}."), &keys, &expected()), Err(Rejection::Malformed));
    assert_eq!(verify(signed, &keys, &expected()), Err(Rejection::Malformed));
}

#[test]
fn another_key_and_a_changed_payload_are_refused() {
    let (signer, other) = (Signer::new(), Signer::new());
    let keys = KeySet::from_jwks(&[other.jwk("k1")]);
    let token = signer.sign(&good_header(), &good_claims());
    assert_eq!(verify(&token, &keys, &expected()), Err(Rejection::BadSignature));

    let keys = KeySet::from_jwks(&[signer.jwk("k1")]);
    let claims = with(good_claims(), "sub", json!("eve"));
    let parts: Vec<&str> = token.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]);
    assert_eq!(verify(&forged, &keys, &expected()), Err(Rejection::BadSignature));
}

#[test]
fn keys_and_extensions_in_the_header_are_refused() {
    for name in ["crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "zip", "enc", "cty", "unknown"] {
        let header = with(good_header(), name, json!(["b64"]));
        assert_eq!(check(&header, &good_claims()), Err(Rejection::ForbiddenHeader), "{name}");
    }
}

#[test]
fn typ_must_be_the_kind_asked_for() {
    for typ in ["JWT", "join+jwt", "logout+jwt", "ACCESS+JWT", ""] {
        let header = with(good_header(), "typ", json!(typ));
        assert_eq!(check(&header, &good_claims()), Err(Rejection::WrongType), "{typ}");
    }
    assert_eq!(check(&without(good_header(), "typ"), &good_claims()), Err(Rejection::BadHeader));
}

#[test]
fn kid_selects_among_our_keys_and_nothing_else() {
    for kid in ["k2", "../../dev/null", "' OR 1=1 --", ""] {
        let header = with(good_header(), "kid", json!(kid));
        assert_eq!(check(&header, &good_claims()), Err(Rejection::UnknownKey), "{kid}");
    }
    assert_eq!(check(&without(good_header(), "kid"), &good_claims()), Err(Rejection::BadHeader));
    assert_eq!(check(&with(good_header(), "kid", json!(1)), &good_claims()), Err(Rejection::BadHeader));
}

#[test]
fn every_claim_is_required_and_typed() {
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "name"] {
        assert_eq!(check(&good_header(), &without(good_claims(), name)), Err(Rejection::BadClaims), "{name}");
        for wrong in [json!(null), json!([]), json!({}), json!(-1), json!(1.5), json!(true), json!(["us"])] {
            let claims = with(good_claims(), name, wrong.clone());
            assert_eq!(check(&good_header(), &claims), Err(Rejection::BadClaims), "{name} {wrong}");
        }
    }
    for name in ["exp", "iat"] {
        for wrong in [json!("1800000600"), json!(1e300)] {
            assert_eq!(check(&good_header(), &with(good_claims(), name, wrong)), Err(Rejection::BadClaims));
        }
    }
    for name in ["sub", "jti"] {
        assert_eq!(check(&good_header(), &with(good_claims(), name, json!(""))), Err(Rejection::BadClaims));
    }
    assert_eq!(check(&good_header(), &with(good_claims(), "nbf", json!(NOW))), Err(Rejection::BadClaims));
}

#[test]
fn issuer_and_audience_must_match_exactly() {
    let other = with(good_claims(), "iss", json!("US"));
    assert_eq!(check(&good_header(), &other), Err(Rejection::WrongIssuer));
    let other = with(good_claims(), "aud", json!("game:default2"));
    assert_eq!(check(&good_header(), &other), Err(Rejection::WrongAudience));
}

#[test]
fn time_is_judged_on_both_sides() {
    let at = |iat: u64, exp: u64| {
        check(&good_header(), &with(with(good_claims(), "iat", json!(iat)), "exp", json!(exp)))
    };
    assert_eq!(at(NOW - 600, NOW - 5), Err(Rejection::Expired));
    assert!(at(NOW - 600, NOW - 4).is_ok(), "within the leeway");
    assert_eq!(at(NOW + 6, NOW + 60), Err(Rejection::NotYetValid));
    assert_eq!(at(NOW, NOW + 3_601), Err(Rejection::LivesTooLong));
    assert_eq!(at(NOW, NOW), Err(Rejection::LivesTooLong));
    assert_eq!(at(NOW, u64::MAX), Err(Rejection::LivesTooLong));
}

#[test]
fn a_clock_that_is_not_set_judges_nothing() {
    let signer = Signer::new();
    let token = signer.sign(&good_header(), &good_claims());
    let keys = KeySet::from_jwks(&[signer.jwk("k1")]);
    let expectation = Expectation { now: 10, ..expected() };
    assert_eq!(verify(&token, &keys, &expectation), Err(Rejection::ClockNotSet));
}

#[test]
fn doubled_members_are_refused() {
    let signer = Signer::new();
    let keys = KeySet::from_jwks(&[signer.jwk("k1")]);
    let claims = good_claims().to_string();
    let doubled = claims.replacen('{', r#"{"sub":"eve","#, 1);
    let token = signer.sign_text(&good_header().to_string(), &doubled);
    assert_eq!(verify(&token, &keys, &expected()), Err(Rejection::BadClaims));
    // The same member, spelt with an escape.
    let escaped = claims.replacen('{', r#"{"s\u0075b":"eve","#, 1);
    let token = signer.sign_text(&good_header().to_string(), &escaped);
    assert_eq!(verify(&token, &keys, &expected()), Err(Rejection::BadClaims));
    let header = r#"{"alg":"EdDSA","alg":"none","typ":"access+jwt","kid":"k1"}"#;
    assert_eq!(verify(&signer.sign_text(header, &claims), &keys, &expected()), Err(Rejection::BadHeader));
}

#[test]
fn shape_and_alphabet_are_strict() {
    let signer = Signer::new();
    let keys = KeySet::from_jwks(&[signer.jwk("k1")]);
    let token = signer.sign(&good_header(), &good_claims());
    for bad in [
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}="),
        format!("{token}.x"),
        "..".into(),
        String::new(),
    ] {
        assert_eq!(verify(&bad, &keys, &expected()), Err(Rejection::Malformed), "{bad:?}");
    }
    assert_eq!(verify(&"a".repeat(MAX_TOKEN + 1), &keys, &expected()), Err(Rejection::TooLong));
    // 64 bytes leave four unused bits in the last character: only zeros are canonical.
    let last = token.chars().last().expect("characters");
    let sibling = ['B', 'R', 'h', 'x'].into_iter().find(|other| *other != last).expect("another");
    let respelt = format!("{}{sibling}", &token[..token.len() - 1]);
    assert!(verify(&respelt, &keys, &expected()).is_err());
}

#[test]
fn unfit_keys_never_enter_the_set() {
    let signer = Signer::new();
    let good = signer.jwk("k1");
    let unfit = [
        Jwk { kty: "oct".into(), ..good.clone() },
        Jwk { crv: "X25519".into(), ..good.clone() },
        Jwk { alg: "HS256".into(), ..good.clone() },
        Jwk { usage: "enc".into(), ..good.clone() },
        Jwk { x: "AAAA".into(), ..good.clone() },
        Jwk { kid: "../k1".into(), ..good.clone() },
    ];
    for jwk in unfit {
        assert!(KeySet::from_jwks(std::slice::from_ref(&jwk)).is_empty(), "{jwk:?}");
    }
    assert!(KeySet::from_jwks(&[good.clone(), Signer::new().jwk("k1")]).is_empty(), "a doubled kid");
    assert!(KeySet::from_jwks(&[good]).contains("k1"));
}

#[test]
fn a_ticket_lives_a_minute_at_most() {
    let signer = Signer::new();
    let keys = KeySet::from_jwks(&[signer.jwk("k1")]);
    let header = with(good_header(), "typ", json!("join+jwt"));
    let expectation = Expectation { kind: TokenKind::Join, audience: "server-1", ..expected() };
    let claims = with(good_claims(), "aud", json!("server-1"));
    let long = signer.sign(&header, &claims);
    assert_eq!(verify(&long, &keys, &expectation), Err(Rejection::LivesTooLong));
    let short = signer.sign(&header, &with(claims, "exp", json!(NOW + 60)));
    assert!(verify(&short, &keys, &expectation).is_ok());
}

proptest::proptest! {
    #[test]
    fn no_input_panics(token in "\\PC{0,200}") {
        let _rejected = verify(&token, &KeySet::default(), &expected());
    }

    #[test]
    fn no_flipped_byte_is_accepted(position in 0usize..200, flip in 1u8..128) {
        let signer = Signer::new();
        let keys = KeySet::from_jwks(&[signer.jwk("k1")]);
        let token = signer.sign(&good_header(), &good_claims());
        let mut bytes = token.clone().into_bytes();
        let position = position % bytes.len();
        bytes[position] ^= flip;
        if let Ok(changed) = String::from_utf8(bytes) {
            proptest::prop_assert!(verify(&changed, &keys, &expected()).is_err());
        }
    }
}
