//! A signed token, and the ways to judge it: nothing but its signature, the strict verifier, and what a game server does.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use backend_client::api::transport::{HttpReply, HttpRequest, Transport, TransportError};
use backend_client::platform::clock::SystemClock;
use backend_client::platform::storage::MemoryStorage;
use backend_client::validation::{Policy, TokenValidator, ValidatorConfig};
use backend_client::{Config, HttpBackend};
use backend_protocol::validation::TokenKind;
use backend_token::{Algorithm, KeySet, Leeway, Validation, verify};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const ISSUER: &str = "backend_client";
const AUDIENCE: &str = "game:default";
const PLAYER: &str = "0190f5fe-7c00-7a00-8000-00000000ada1";
/// Tokens in a turn.
pub const CHECKS_PER_TURN: u32 = 50;

/// How a token is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The crypto library alone, with a parsed key and a decoded signature.
    Bare,
    /// Every rule there is.
    Strict,
    /// The same with what a game server has around it: the cache of keys, and revocations.
    GameServer,
}

/// A signed token and what judges it.
pub struct Case {
    pub algorithm: Algorithm,
    /// Least part of the bare check's speed.
    pub goal: f64,
    now: u64,
    token: String,
    keys: KeySet,
    bare: ParsedPublicKey,
    signature: Vec<u8>,
    game_server: Option<GameServer>,
}

/// Its keys come over a transport that is no network.
struct GameServer {
    validator: TokenValidator,
    runtime: Runtime,
}

/// Answers every request with the public keys.
struct PublicKeys(Vec<u8>);

#[async_trait]
impl Transport for PublicKeys {
    async fn send(&self, _request: HttpRequest) -> Result<HttpReply, TransportError> {
        Ok(HttpReply { status: 200, headers: HeaderMap::new(), body: self.0.clone() })
    }
}

impl GameServer {
    /// With the keys already there. Nothing but `validate` is called afterwards.
    fn with(document: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let clock = Arc::new(SystemClock);
        let config = Config { base_url: "http://127.0.0.1:1".into(), ..Config::default() };
        let keys = PublicKeys(document.as_bytes().to_vec());
        let validator = ValidatorConfig {
            issuer: config.issuer.clone(),
            game: config.game.clone(),
            policy: Policy::LocalOnly,
            server_key: None,
        };
        let backend = Arc::new(HttpBackend::new(config, Arc::new(keys), clock.clone())?);
        let validator = TokenValidator::new(backend, Arc::<MemoryStorage>::default(), clock, validator);
        runtime.block_on(validator.prepare())?;
        Ok(Self { validator, runtime })
    }
}

impl Way {
    /// As a contestant.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare signature check",
            Self::Strict => "addon, every rule",
            Self::GameServer => "addon, game server",
        }
    }
}

impl Case {
    /// The ways there are: game servers take what our backend signs with, and nothing else.
    pub fn ways(&self) -> &'static [Way] {
        if self.game_server.is_some() {
            &[Way::Bare, Way::Strict, Way::GameServer]
        } else {
            &[Way::Bare, Way::Strict]
        }
    }

    /// Judges the token [`CHECKS_PER_TURN`] times.
    pub fn turn(&self, way: Way) -> Result<()> {
        match way {
            Way::Bare => {
                let (signed, _) = self.token.rsplit_once('.').context("no token")?;
                for _ in 0..CHECKS_PER_TURN {
                    self.bare.verify_sig(black_box(signed.as_bytes()), black_box(&self.signature))?;
                }
            }
            Way::Strict => {
                let (kind, leeway) = (TokenKind::Access, Leeway::default());
                let expected = Validation { kind, audience: AUDIENCE, now: self.now, leeway };
                for _ in 0..CHECKS_PER_TURN {
                    let claims = verify(black_box(&self.token), &self.keys, &expected)?;
                    ensure!(claims.sub == PLAYER, "somebody else");
                }
            }
            Way::GameServer => {
                let server = self.game_server.as_ref().context("game servers do not take it")?;
                server.runtime.block_on(async {
                    for _ in 0..CHECKS_PER_TURN {
                        let player = server.validator.validate(black_box(&self.token), None).await?;
                        ensure!(player.player_id == PLAYER, "somebody else");
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// A token with usual claims; `sign` gives the signature, `bare` checks it.
    fn of(
        algorithm: Algorithm,
        mut jwk: Value,
        bare: ParsedPublicKey,
        goal: f64,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        jwk["kid"] = "0123456789abcdef".into();
        jwk["alg"] = algorithm.name().into();
        jwk["use"] = "sig".into();
        let header = json!({ "alg": algorithm.name(), "typ": "access+jwt", "kid": jwk["kid"] });
        // As long as one may live: it is judged by the clock.
        let claims = json!({ "iss": ISSUER, "sub": PLAYER, "aud": AUDIENCE, "exp": now + 3_600, "iat": now,
            "jti": "0190f5fe-7c00-7a00-8000-0123456789ab", "name": "Ada" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = sign(signed.as_bytes())?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
        let document = json!({ "keys": [jwk] }).to_string();
        let keys = KeySet::from_json(ISSUER, document.as_bytes(), &[algorithm])?;
        ensure!(keys.len() == 1, "the key is not taken");
        let game_server =
            if algorithm == Algorithm::EdDSA { Some(GameServer::with(&document)?) } else { None };
        Ok(Self { algorithm, goal, now, token, keys, bare, signature, game_server })
    }
}

/// What our own backend signs with.
pub fn eddsa() -> Result<Case> {
    let pair = Ed25519KeyPair::generate()?;
    let public = pair.public_key().as_ref();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public) });
    let bare = ParsedPublicKey::new(&signature::ED25519, public)?;
    Case::of(Algorithm::EdDSA, jwk, bare, 0.92, |signed| Ok(pair.sign(signed).as_ref().to_vec()))
}

/// What other issuers sign with.
pub fn es256() -> Result<Case> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let public = pair.public_key().as_ref();
    // 4, then both coordinates (SEC 1 §2.3.3).
    let (x, y) = public[1..].split_at(32);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
    let bare = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, public)?;
    Case::of(Algorithm::ES256, jwk, bare, 0.92, |signed| {
        Ok(pair.sign(&SystemRandom::new(), signed)?.as_ref().to_vec())
    })
}

/// What other issuers sign with.
pub fn rs256() -> Result<Case> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let public = pair.public_key().as_ref();
    // Two numbers in DER (RFC 8017 §A.1.1): 256 bytes after eight of heads and a zero, and 65537.
    ensure!(public.len() == 270 && public.ends_with(&[2, 3, 1, 0, 1]), "an unusual RSA key");
    let modulus = &public[9..265];
    let jwk = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" });
    let bare = ParsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, public)?;
    Case::of(Algorithm::RS256, jwk, bare, 0.85, |signed| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature)?;
        Ok(signature)
    })
}
