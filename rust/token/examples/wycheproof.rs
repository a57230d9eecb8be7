//! Runs the verifier on the vectors of the Wycheproof project: `cargo xtask wycheproof DIR`.
//!
//! Every vector must come out as it is labelled, but for those listed here one by one, which must not; every encrypted
//! token must be refused. The key sets of the vectors are read as an issuer's would be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use backend_token::{Algorithm, KeySet, verify_signature};
use serde_json::{Value, json};

/// There is no code for shared secrets here: whoever can verify with one can also sign.
const SYMMETRIC: &str = "HMAC: symmetric keys are never accepted";

/// Vectors of `json_web_signature_test.json` that are labelled valid and refused.
const REFUSED_SIGNATURES: [(u64, &str); 14] = [
    (1, SYMMETRIC),
    (346, "the key is for PS256, the header says PS384: a key has one algorithm (RFC 8725 §3.1)"),
    (347, "the key is for \"ES521\", which is not an algorithm, and the header says ES512"),
    (348, SYMMETRIC),
    (350, "the key is for PS256, the header says PS384: a key has one algorithm (RFC 8725 §3.1)"),
    (351, "the key is for \"ES521\", which is not an algorithm, and the header says ES512"),
    (352, SYMMETRIC),
    (357, "HMAC: symmetric keys are never accepted; also, the same token is labelled invalid as 367 and 370"),
    (358, SYMMETRIC),
    (359, SYMMETRIC),
    (372, "HMAC, and a '?' in the header: not base64url (RFC 7515 §2)"),
    (373, "HMAC, and a '?' in the payload: not base64url (RFC 7515 §2)"),
    (376, SYMMETRIC),
    (377, SYMMETRIC),
];

/// Vectors of `json_web_key_test.json` that are labelled valid and refused.
const REFUSED_KEYS: [(u64, &str); 4] = [(2, SYMMETRIC), (13, SYMMETRIC), (14, SYMMETRIC), (15, SYMMETRIC)];

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, is_good: bool, what: impl FnOnce() -> String) {
        if is_good {
            self.passed += 1;
        } else {
            self.failed += 1;
            println!("FAIL {}", what());
        }
    }
}

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("usage: wycheproof DIR")?);
    let mut all = Tally::default();
    for (file, member, refused) in [
        ("json_web_signature_test.json", "jws", Some(&REFUSED_SIGNATURES[..])),
        ("json_web_key_test.json", "jws", Some(&REFUSED_KEYS[..])),
        ("json_web_encryption_test.json", "jwe", None),
    ] {
        let tally = run(&folder.join(file), member, refused)?;
        println!("{file}: {} as they should be, {} not", tally.passed, tally.failed);
        all.passed += tally.passed;
        all.failed += tally.failed;
    }
    println!("{} passed, {} failed", all.passed, all.failed);
    ensure!(all.failed == 0, "the verifier does not do what the vectors say");
    Ok(())
}

/// `refused`: vectors labelled valid that must be refused; `None`: all must be.
fn run(path: &Path, member: &str, refused: Option<&[(u64, &str)]>) -> Result<Tally> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let document: Value = serde_json::from_slice(&text)?;
    let mut listed: BTreeMap<u64, &str> = refused.unwrap_or_default().iter().copied().collect();
    let mut tally = Tally::default();
    for group in array(&document, "testGroups")? {
        let keys = key_set(group)?;
        for test in array(group, "tests")? {
            let id = test["tcId"].as_u64().context("a vector has an id")?;
            let token = test[member].as_str().context("a vector has a token")?;
            let is_accepted = verify_signature(token, &keys).is_ok();
            let is_valid = test["result"] == "valid";
            let should_be = is_valid && refused.is_some() && listed.remove(&id).is_none();
            tally.count(is_accepted == should_be, || {
                format!("{id} ({}): labelled valid: {is_valid}, accepted: {is_accepted}", test["comment"])
            });
        }
    }
    let announced = document["numberOfTests"].as_u64().context("numberOfTests")?;
    ensure!(
        (tally.passed + tally.failed) as u64 == announced,
        "not all of the {announced} vectors were found"
    );
    // An entry of the list that no vector needs would hide a change.
    ensure!(listed.is_empty(), "listed as refused, but not labelled valid: {listed:?}");
    Ok(tally)
}

/// The key or keys of a group, as an issuer would publish them.
fn key_set(group: &Value) -> Result<KeySet> {
    let key = group.get("public").or_else(|| group.get("private")).context("a group has a key")?;
    let document = if key.get("keys").is_some() { key.clone() } else { json!({"keys": [key]}) };
    Ok(KeySet::from_json("wycheproof", document.to_string().as_bytes(), Algorithm::ALL)?)
}

fn array<'a>(value: &'a Value, member: &str) -> Result<&'a Vec<Value>> {
    value[member].as_array().with_context(|| format!("no {member}"))
}
