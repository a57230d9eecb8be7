//! A token from a stranger is never accepted, and one that we signed only if it says what it must.
#![no_main]

use std::sync::LazyLock;

use backend_protocol::validation::TokenKind;
use backend_token::{Algorithm, Validation, KeySet, Leeway, SigningKey, Unverified, verify};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// In 2096: later than any build.
const NOW: u64 = 4_000_000_000;

struct Issuer {
    key: SigningKey,
    keys: KeySet,
    header: String,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let key = SigningKey::generate().expect("a key");
    let document = json!({ "keys": [key.jwk()] }).to_string();
    let keys = KeySet::from_json("us", document.as_bytes(), &[Algorithm::EdDSA]).expect("a set");
    let header = json!({"alg": "EdDSA", "typ": "access+jwt", "kid": key.kid()}).to_string();
    Issuer { key, keys, header }
});

fn expected() -> Validation<'static> {
    Validation { kind: TokenKind::Access, audience: "game:default", now: NOW, leeway: Leeway::default() }
}

/// The same rules, read from the payload by other code.
fn says_what_it_must(payload: &[u8]) {
    let claims: Value = serde_json::from_slice(payload).expect("accepted, so it is JSON");
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("us"), &json!("game:default")));
    let (iat, exp) = (claims["iat"].as_u64().expect("iat"), claims["exp"].as_u64().expect("exp"));
    assert!(iat < exp && exp - iat <= 3_600 && iat <= NOW + 30 && NOW < exp + 5);
    assert!(claims["nbf"].is_null() || claims["nbf"].as_u64().expect("nbf") <= NOW + 30);
    assert!(["sub", "jti"].iter().all(|name| claims[name].as_str().is_some_and(|text| !text.is_empty())));
    assert!(claims["name"].is_string());
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let issuer = &*ISSUER;
    match mode % 3 {
        // A text from outside. Nobody can sign for us.
        0 => {
            let Ok(token) = std::str::from_utf8(data) else { return };
            let _what_it_says = Unverified::parse(token);
            assert!(verify(token, &issuer.keys, &expected()).is_err());
        }
        // Any payload, well signed.
        1 => {
            let token = issuer.key.sign_parts(issuer.header.as_bytes(), data).expect("signed");
            if verify(&token, &issuer.keys, &expected()).is_ok() {
                says_what_it_must(data);
            }
        }
        // Any header, well signed.
        _ => {
            let payload = json!({"iss": "us", "sub": "ada", "aud": "game:default", "exp": NOW + 600, "iat": NOW,
                "jti": "1", "name": "Ada"});
            let token = issuer.key.sign_parts(data, payload.to_string().as_bytes()).expect("signed");
            if verify(&token, &issuer.keys, &expected()).is_ok() {
                let (said, meant): (Value, Value) = (
                    serde_json::from_slice(data).expect("accepted, so it is JSON"),
                    serde_json::from_str(&issuer.header).expect("JSON"),
                );
                assert_eq!(said, meant);
            }
        }
    }
});
