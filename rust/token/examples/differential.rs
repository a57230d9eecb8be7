//! Makes changed tokens and says of each whether it is accepted: one half of `cargo xtask differential`.
//!
//! `differential SEED COUNT` prints a line of JSON with the key and what is expected, then one for each token. The other half,
//! `rust/token/tests/differential_tokens.py`, asks a library that is not ours. The same seed changes tokens in the same way.

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};
use backend_protocol::validation::TokenKind;
use backend_token::{Algorithm, KeySet, Leeway, SigningKey, Validation, verify};
use serde_json::{Map, Value, json};

/// In 2096: later than any build.
const NOW: u64 = 4_000_000_000;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        || -> Result<u64> { Ok(arguments.next().context("usage: differential SEED COUNT")?.parse()?) };
    let (seed, count) = (number()?, number()?);
    let mut rng = Dice(seed);
    let key = SigningKey::generate()?;
    let document = json!({ "keys": [key.jwk()] }).to_string();
    let keys = KeySet::from_json("us", document.as_bytes(), &[Algorithm::EdDSA])?;
    let leeway = Leeway::default();
    let expected = Validation { kind: TokenKind::Access, audience: "game:default", now: NOW, leeway };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let told = json!({"jwk": key.jwk(), "issuer": "us", "audience": expected.audience, "now": NOW,
        "leeway": leeway.seconds(), "typ": "access+jwt"});
    writeln!(out, "{told}")?;
    for _ in 0..count {
        let token = changed_token(&mut rng, &key)?;
        let verdict = verify(&token, &keys, &expected);
        let why = verdict.as_ref().err().map(ToString::to_string);
        writeln!(out, "{}", json!({"token": token, "accepted": verdict.is_ok(), "why": why}))?;
    }
    out.flush()?;
    Ok(())
}

fn changed_token(rng: &mut Dice, key: &SigningKey) -> Result<String> {
    let mut header = json!({"alg": "EdDSA", "typ": "access+jwt", "kid": key.kid()});
    let mut claims = json!({"iss": "us", "sub": "ada", "aud": "game:default", "exp": NOW + 600, "iat": NOW,
        "jti": "1", "name": "Ada"});
    match rng.below(8) {
        0 => change(rng, &mut header, &["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "cty"]),
        1 => shift_time(rng, &mut claims),
        2 | 3 => {
            change(rng, &mut claims, &["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "name", "other"]);
        }
        _ => {}
    }
    let (mut header, mut claims) = (header.to_string(), claims.to_string());
    match rng.below(6) {
        0 => header = respell(rng, &header),
        1 => claims = respell(rng, &claims),
        _ => {}
    }
    let token = key.sign_parts(header.as_bytes(), claims.as_bytes())?;
    Ok(if rng.below(3) == 0 { damage(rng, token) } else { token })
}

fn change(rng: &mut Dice, object: &mut Value, names: &[&str]) {
    let Some(members) = object.as_object_mut() else { return };
    for _ in 0..=rng.below(2) {
        let name = *rng.one_of(names);
        if rng.below(5) == 0 {
            members.remove(name);
        } else {
            let value = odd_value(rng, members, name);
            members.insert(name.to_owned(), value);
        }
    }
}

fn odd_value(rng: &mut Dice, members: &Map<String, Value>, name: &str) -> Value {
    let own = members.get(name).cloned().unwrap_or(json!(NOW));
    match rng.below(20) {
        0 => json!(null),
        1 => json!(true),
        2 => json!(""),
        3 => json!([own]),
        4 => json!([own, "game:other"]),
        5 => json!({ "v": own }),
        6 => json!(own.to_string()),
        7 => json!(own.as_f64().unwrap_or(1.5)),
        8 => json!(-1),
        9 => json!(0),
        10 => json!(u64::MAX),
        11 => json!(1e300),
        12 => json!(NOW as f64 + 100.5),
        13 => json!(own.as_str().map(|text| format!("{text} "))),
        14 => json!(own.as_str().map(str::to_uppercase)),
        15 => {
            json!(rng.one_of(&["none", "HS256", "RS256", "Ed25519", "JWT", "join+jwt", "game:other", "them"]))
        }
        16 => json!(["exp"]),
        17 => json!([]),
        18 => json!("x".repeat(rng.below(300))),
        _ => own,
    }
}

fn shift_time(rng: &mut Dice, claims: &mut Value) {
    const OFFSETS: [i64; 15] = [-4_000, -3_600, -601, -61, -31, -6, -5, -4, -1, 0, 1, 5, 6, 31, 4_000];
    for name in ["exp", "iat", "nbf"] {
        if rng.below(2) == 0 {
            let base = if name == "exp" && rng.below(2) == 0 { NOW + 600 } else { NOW };
            claims[name] = json!(base.saturating_add_signed(*rng.one_of(&OFFSETS)));
        }
    }
}

/// The same or nearly the same JSON in other bytes.
fn respell(rng: &mut Dice, text: &str) -> String {
    let doubled = |member: &str| text.replacen('{', &format!("{{{member},"), 1);
    match rng.below(14) {
        0 => format!(" \n\t{text}\r\n "),
        1 => text.replace(':', " : "),
        2 => format!("\u{feff}{text}"),
        3 => format!("{text}{text}"),
        4 => format!("{text}\0"),
        5 => doubled(r#""sub":"eve""#),
        6 => doubled(r#""exp":9000000000"#),
        7 => doubled(r#""s\u0075b":"eve""#),
        8 => doubled(r#""alg":"none""#),
        9 => text.replace("ada", r"\u0061da"),
        10 => text.replace("Ada", r"\ud800"),
        11 => text.replace("4000000600", "4000000600.0"),
        12 => text.replace("4000000600", "4.0000006e9"),
        _ => text.replace('"', "'"),
    }
}

/// Changes the text of a token after it was signed.
fn damage(rng: &mut Dice, token: String) -> String {
    const CHARACTERS: &[u8] = b"ABab09-_+/=. \n\t.?\0";
    let mut bytes = token.clone().into_bytes();
    let place = rng.below(bytes.len());
    let other = *rng.one_of(CHARACTERS);
    match rng.below(12) {
        0 => bytes[place] = other,
        1 => bytes.insert(place, other),
        2 => drop(bytes.remove(place)),
        3 => bytes.truncate(place),
        4 => bytes.push(other),
        5 => bytes.insert(0, other),
        6 => bytes[place] ^= 1,
        7 => bytes.swap(0, place),
        8 => {
            // The last character of the signature has bits that mean nothing.
            let last = bytes.len() - 1;
            bytes[last] = *rng.one_of(b"ABCDEFGHQgw");
        }
        9 => bytes.extend_from_slice(b"=="),
        10 => return token.replace('.', ".."),
        _ => return token.replace('-', "+").replace('_', "/"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
