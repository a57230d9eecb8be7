//! What judging a token costs, counted: `cargo xtask bench guards` holds it against checked-in numbers.
//!
//! `cost allocations` prints the allocations of one check by algorithm. `cost strict ALGORITHM COUNT` does nothing but judge
//! a token so often, and `cost bare ALGORITHM COUNT` nothing but check its signature: what a processor does more in the
//! first is ours, and holds wherever the crypto library picks other code for another processor.

mod counting;

use std::hint::black_box;

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents};
use backend_protocol::validation::TokenKind;
use backend_token::{Algorithm, KeySet, Leeway, Validation, verify};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// Signed once and for all, so that every run does the same: three keys that were thrown away, and a token of each.
const TOKENS: &str = include_str!("tokens.json");
const ISSUER: &str = "backend_client";
/// When they are good, in 2096: later than any build.
const NOW: u64 = 4_000_000_000;

/// A token and what verifies it: with every rule, and bare.
struct Case {
    token: String,
    keys: KeySet,
    bare: ParsedPublicKey,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["allocations"] => {
            let mut found = Map::new();
            for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
                found.insert(algorithm.name().to_owned(), json!(Case::of(algorithm)?.allocations()?));
            }
            println!("{}", Value::Object(found));
            Ok(())
        }
        [how @ ("strict" | "bare"), algorithm, count] => {
            let case = Case::of(Algorithm::from_name(algorithm).context("no such algorithm")?)?;
            let count: u32 = count.parse()?;
            if *how == "strict" { case.strict(count) } else { case.bare(count) }
        }
        _ => bail!("usage: cost allocations | cost strict|bare ALGORITHM COUNT"),
    }
}

impl Case {
    fn of(algorithm: Algorithm) -> Result<Self> {
        let all: Vec<Value> = serde_json::from_str(TOKENS)?;
        let one =
            all.iter().find(|one| one["alg"] == algorithm.name()).context("no token of this algorithm")?;
        let document = json!({ "keys": [one["jwk"]] }).to_string();
        let keys = KeySet::from_json(ISSUER, document.as_bytes(), &[algorithm])?;
        ensure!(keys.len() == 1, "the key is not taken");
        let token = one["token"].as_str().context("no token")?.to_owned();
        Ok(Self { token, keys, bare: parsed(algorithm, &one["jwk"])? })
    }

    fn judge(&self) -> Result<()> {
        let (kind, leeway) = (TokenKind::Access, Leeway::default());
        let expected = Validation { kind, audience: "game:default", now: NOW, leeway };
        let claims = verify(black_box(&self.token), &self.keys, &expected)?;
        ensure!(claims.name == "Ada", "somebody else");
        Ok(())
    }

    fn strict(&self, count: u32) -> Result<()> {
        (0..count).try_for_each(|_| self.judge())
    }

    fn bare(&self, count: u32) -> Result<()> {
        let (signed, signature) = self.token.rsplit_once('.').context("no signature")?;
        let signature = URL_SAFE_NO_PAD.decode(signature)?;
        for _ in 0..count {
            self.bare.verify_sig(black_box(signed.as_bytes()), black_box(&signature))?;
        }
        Ok(())
    }

    /// Of one check, when others have gone before it.
    fn allocations(&self) -> Result<u64> {
        self.judge()?;
        let before = counting::allocations();
        self.judge()?;
        Ok(counting::allocations() - before)
    }
}

/// The key as the crypto library takes it.
fn parsed(algorithm: Algorithm, jwk: &Value) -> Result<ParsedPublicKey> {
    let number = |name: &str| -> Result<Vec<u8>> {
        Ok(URL_SAFE_NO_PAD.decode(jwk[name].as_str().context("not in the key")?)?)
    };
    Ok(match algorithm {
        Algorithm::EdDSA => ParsedPublicKey::new(&signature::ED25519, number("x")?)?,
        // Uncompressed (SEC 1 §2.3.3).
        Algorithm::ES256 => ParsedPublicKey::new(
            &signature::ECDSA_P256_SHA256_FIXED,
            [vec![4], number("x")?, number("y")?].concat(),
        )?,
        Algorithm::RS256 => RsaPublicKeyComponents { n: number("n")?, e: number("e")? }
            .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)?,
        _ => bail!("not counted"),
    })
}
