//! A token judged with every rule there is, against nothing but the check of its signature by the same library on the
//! same key: what the rules cost.

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use backend_protocol::validation::TokenKind;
use backend_token::{Algorithm, Expectation, KeySet, Leeway, verify};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::Options;
use crate::machine::Machine;
use crate::series::{Report, ratios};

const ISSUER: &str = "backend_client";
const AUDIENCE: &str = "game:default";
const BARE: &str = "bare signature check";
const STRICT: &str = "addon, every rule";
/// Tokens in a turn.
const TURN: u32 = 50;
const MEASURE: &str = "us_per_token";

/// Of this thread: what other processes do on the machine is not in it.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A signed token and what it is verified with.
struct Case {
    algorithm: Algorithm,
    token: String,
    keys: KeySet,
    bare: ParsedPublicKey,
    signature: Vec<u8>,
    goal: f64,
}

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let turns = if options.quick { 1 } else { 100 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let cases = [eddsa(now)?, es256(now)?, rs256(now)?];
    let mut report = Report::new("validation", Machine::this()?);
    for _ in 0..options.rounds {
        for case in &cases {
            let name = case.algorithm.name();
            // In small turns: what else runs on the machine slows both down.
            let (mut bare, mut strict) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..turns {
                bare += case.bare()?;
                strict += case.strict(now)?;
            }
            let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(turns * TURN);
            report.add(name, MEASURE, BARE, each(bare));
            report.add(name, MEASURE, STRICT, each(strict));
        }
    }
    for case in &cases {
        let name = case.algorithm.name();
        let part = ratios(report.rounds(name, MEASURE, BARE), report.rounds(name, MEASURE, STRICT));
        report.judge(&format!("{name}, part of the bare check's speed"), part, false, case.goal);
    }
    for case in &cases {
        let name = case.algorithm.name();
        report.plot(&options.folder, name, name, MEASURE, &format!("One {name} token on one core, in µs"))?;
    }
    report.publish(&options.folder)?;
    Ok(options.quick || report.is_met())
}

impl Case {
    /// Processor time for a turn.
    fn bare(&self) -> Result<Duration> {
        let (signed, _) = self.token.rsplit_once('.').ok_or_else(|| anyhow!("no token"))?;
        let begin = processor_time();
        for _ in 0..TURN {
            self.bare.verify_sig(black_box(signed.as_bytes()), black_box(&self.signature))?;
        }
        Ok(processor_time().saturating_sub(begin))
    }

    fn strict(&self, now: u64) -> Result<Duration> {
        let expected =
            Expectation { kind: TokenKind::Access, audience: AUDIENCE, now, leeway: Leeway::default() };
        let begin = processor_time();
        for _ in 0..TURN {
            let claims = verify(black_box(&self.token), &self.keys, &expected)?;
            ensure!(claims.sub == "player-1", "somebody else");
        }
        Ok(processor_time().saturating_sub(begin))
    }

    /// A token with usual claims; `sign` gives the signature, `bare` checks it.
    fn of(
        algorithm: Algorithm,
        mut jwk: Value,
        bare: ParsedPublicKey,
        now: u64,
        goal: f64,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        jwk["kid"] = "0123456789abcdef".into();
        jwk["alg"] = algorithm.name().into();
        jwk["use"] = "sig".into();
        let header = json!({ "alg": algorithm.name(), "typ": "access+jwt", "kid": jwk["kid"] });
        let claims = json!({ "iss": ISSUER, "sub": "player-1", "aud": AUDIENCE, "exp": now + 600, "iat": now,
            "jti": "0190f5fe-7c00-7a00-8000-0123456789ab", "name": "Ada" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = sign(signed.as_bytes())?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
        let document = json!({ "keys": [jwk] }).to_string();
        let keys = KeySet::from_json(ISSUER, document.as_bytes(), &[algorithm])?;
        ensure!(keys.len() == 1, "the key is not taken");
        Ok(Self { algorithm, token, keys, bare, signature, goal })
    }
}

fn eddsa(now: u64) -> Result<Case> {
    let pair = Ed25519KeyPair::generate()?;
    let public = pair.public_key().as_ref();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public) });
    let bare = ParsedPublicKey::new(&signature::ED25519, public)?;
    Case::of(Algorithm::EdDSA, jwk, bare, now, 0.92, |signed| Ok(pair.sign(signed).as_ref().to_vec()))
}

fn es256(now: u64) -> Result<Case> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let public = pair.public_key().as_ref();
    // 4, then both coordinates (SEC 1 §2.3.3).
    let (x, y) = public[1..].split_at(32);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
    let bare = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, public)?;
    Case::of(Algorithm::ES256, jwk, bare, now, 0.92, |signed| {
        Ok(pair.sign(&SystemRandom::new(), signed)?.as_ref().to_vec())
    })
}

fn rs256(now: u64) -> Result<Case> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let public = pair.public_key().as_ref();
    // Two numbers in DER (RFC 8017 §A.1.1): 256 bytes after eight of heads and a zero, and 65537.
    ensure!(public.len() == 270 && public.ends_with(&[2, 3, 1, 0, 1]), "an unusual RSA key");
    let modulus = &public[9..265];
    let jwk = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" });
    let bare = ParsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, public)?;
    Case::of(Algorithm::RS256, jwk, bare, now, 0.85, |signed| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature)?;
        Ok(signature)
    })
}
