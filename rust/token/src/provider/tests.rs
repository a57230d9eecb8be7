use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::*;

fn new_key() -> (Ed25519KeyPair, DecodingKey) {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let key = DecodingKey::from_ed_der(pair.public_key().as_ref());
    (pair, key)
}

#[test]
fn a_key_verifies_its_own_signatures_only() {
    let (ours, our_key) = new_key();
    let (theirs, their_key) = new_key();
    for (pair, key, is_good) in [
        (&ours, &our_key, true),
        (&theirs, &their_key, true),
        (&ours, &their_key, false),
        (&theirs, &our_key, false),
    ] {
        let verifier = verifier(&jsonwebtoken::Algorithm::EdDSA, key).expect("a verifier");
        assert_eq!(verifier.verify(b"message", &pair.sign(b"message").as_ref().to_vec()).is_ok(), is_good);
    }
}

#[test]
fn a_key_of_another_algorithm_is_refused() {
    let (_, key) = new_key();
    assert!(is_valid(Algorithm::EdDSA, &key), "kept for its own algorithm");
    let secret = DecodingKey::from_secret(&[1; 32]);
    for algorithm in jsonwebtoken::Algorithm::EdDSA.family().algorithms().iter().chain(&OTHERS) {
        assert!(verifier(algorithm, &secret).is_err(), "{algorithm:?}");
    }
    for algorithm in OTHERS {
        assert!(verifier(&algorithm, &key).is_err(), "{algorithm:?}");
    }
}

const OTHERS: [jsonwebtoken::Algorithm; 11] = [
    jsonwebtoken::Algorithm::HS256,
    jsonwebtoken::Algorithm::HS384,
    jsonwebtoken::Algorithm::HS512,
    jsonwebtoken::Algorithm::ES256,
    jsonwebtoken::Algorithm::ES384,
    jsonwebtoken::Algorithm::RS256,
    jsonwebtoken::Algorithm::RS384,
    jsonwebtoken::Algorithm::RS512,
    jsonwebtoken::Algorithm::PS256,
    jsonwebtoken::Algorithm::PS384,
    jsonwebtoken::Algorithm::PS512,
];

#[test]
fn one_modulus_is_another_key_with_another_exponent_or_algorithm() {
    let key = |e: &[u8]| ParsedKey {
        algorithm: Algorithm::RS256,
        key: DecodingKey::from_rsa_raw_components(&[0xff; 256], e),
        parsed: any_parsed_key(),
    };
    let (usual, other) = (key(&[1, 0, 1]), key(&[3]));
    assert!(usual.is(Algorithm::RS256, &usual.key));
    assert!(!usual.is(Algorithm::RS256, &other.key));
    assert!(!usual.is(Algorithm::PS256, &usual.key));
}

/// Any parsed key.
fn any_parsed_key() -> Arc<ParsedPublicKey> {
    let (_, key) = new_key();
    Arc::new(parse(Algorithm::EdDSA, &key).expect("parsed"))
}

#[test]
fn a_key_is_parsed_once_and_the_number_of_parsed_keys_is_limited() {
    let (_, key) = new_key();
    assert!(is_valid(Algorithm::EdDSA, &key));
    let first = find(Algorithm::EdDSA, &key).expect("kept");
    assert!(is_valid(Algorithm::EdDSA, &key));
    assert!(Arc::ptr_eq(&first, &find(Algorithm::EdDSA, &key).expect("kept")));
    let mut newest = key.clone();
    for _ in 0..=MAX_PARSED_KEYS {
        newest = new_key().1;
        assert!(is_valid(Algorithm::EdDSA, &newest));
    }
    assert!(PARSED_KEYS.read().expect("a lock").len() <= MAX_PARSED_KEYS);
    assert!(find(Algorithm::EdDSA, &newest).is_some(), "the newest is kept");
    assert!(find(Algorithm::EdDSA, &key).is_none(), "the oldest is not");
}
