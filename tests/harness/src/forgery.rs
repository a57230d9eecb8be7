//! Tokens an attacker might show: made from a good one, and good for nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A JSON Web Token taken apart (RFC 7515 §3.1).
struct Parts {
    header: Value,
    claims: Value,
    signature: String,
}

impl Parts {
    fn of(token: &str) -> Result<Self> {
        let mut pieces = token.split('.');
        let mut next = || pieces.next().context("a token has three parts");
        let (header, claims, signature) = (next()?, next()?, next()?);
        let decode =
            |part: &str| -> Result<Value> { Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?) };
        Ok(Self { header: decode(header)?, claims: decode(claims)?, signature: signature.to_owned() })
    }

    /// What a signature covers.
    fn signed_text(&self) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", encode(&self.header), encode(&self.claims))
    }

    fn signed_with(&self, key: &Ed25519KeyPair) -> String {
        let text = self.signed_text();
        let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }
}

/// When `token` expires, as the token itself says.
pub fn expiry(token: &str) -> Result<SystemTime> {
    let seconds = Parts::of(token)?.claims["exp"].as_u64().context("no exp")?;
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Every forgery of `token`, with a name for messages. `public_key` is the backend's published key (the JWK's `x`).
pub fn forgeries(token: &str, public_key: &str) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("unsigned", unsigned(token)?),
        ("signed by a stranger", signed_by_a_stranger(token)?),
        ("bringing its own key", bringing_its_own_key(token)?),
        ("signed with the public key as a shared secret", signed_with_the_public_key(token, public_key)?),
        (
            "another player's name on it",
            tampered(token, "sub", json!("00000000-0000-7000-8000-000000000000"))?,
        ),
        ("a longer life written into it", tampered(token, "exp", json!(4_000_000_000_u64))?),
        ("cut short", token[..token.len() - 8].to_owned()),
    ])
}

/// `alg: none`, no signature (RFC 8725 §2.1).
fn unsigned(token: &str) -> Result<String> {
    let mut parts = Parts::of(token)?;
    parts.header["alg"] = json!("none");
    Ok(format!("{}.", parts.signed_text()))
}

/// The same claims and key id under a key the backend never had.
fn signed_by_a_stranger(token: &str) -> Result<String> {
    Ok(Parts::of(token)?.signed_with(&new_key()?))
}

/// A stranger's key offered in the header (`jwk`, RFC 7515 §4.1.3).
fn bringing_its_own_key(token: &str) -> Result<String> {
    let key = new_key()?;
    let mut parts = Parts::of(token)?;
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    parts.header["jwk"] = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    Ok(parts.signed_with(&key))
}

/// The published key used as an HMAC secret (RFC 8725 §2.1).
fn signed_with_the_public_key(token: &str, public_key: &str) -> Result<String> {
    let mut parts = Parts::of(token)?;
    parts.header["alg"] = json!("HS256");
    let secret = URL_SAFE_NO_PAD.decode(public_key)?;
    let text = parts.signed_text();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), text.as_bytes());
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)))
}

/// The claim `name` changed under the old signature.
fn tampered(token: &str, name: &str, value: Value) -> Result<String> {
    let mut parts = Parts::of(token)?;
    parts.claims[name] = value;
    Ok(format!("{}.{}", parts.signed_text(), parts.signature))
}

fn new_key() -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::generate().map_err(|_| anyhow::anyhow!("cannot generate a key"))
}
