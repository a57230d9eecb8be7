//! The tokens the backend issues, and how it reads them back: with the verifier that game servers use.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use aws_lc_rs::{digest, hmac};
use backend_protocol::validation::{Claims, Jwks, TokenKind, access_audience};
use backend_protocol::{Code, limits, unicode};
use backend_token::{Algorithm, KeySet, Leeway, Rejection, SigningKey, Unverified, Validation};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::auth::signing_keys;
use crate::config::Config;
use crate::database::Database;
use crate::database::secrets::shared_secret;
use crate::http::etag::EtaggedJson;
use crate::http::{ApiError, ApiResult};

/// Interval at which a replica reads keys that another one, or the operator, created or revoked.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Signs and reads tokens.
pub struct Tokens {
    keys: RwLock<Arc<Keys>>,
    /// Derives a refresh token's successor from the token, so that a replay gets the same one and none is stored.
    succession: hmac::Key,
    issuer: String,
    game: String,
}

/// What is published, parsed.
struct Keys {
    signing: SigningKey,
    jwks: EtaggedJson,
    verifying: KeySet,
    verified: VerifiedTokens,
}

impl Keys {
    async fn load(database: &Database, issuer: &str) -> anyhow::Result<Self> {
        let mut published = signing_keys::published(database).await?;
        let jwks = Jwks { keys: published.iter().map(SigningKey::jwk).collect() };
        let document = serde_json::to_vec(&jwks)?;
        let verifying = KeySet::from_json(issuer, &document, &[Algorithm::EdDSA])?;
        if published.is_empty() {
            anyhow::bail!("there is no signing key");
        }
        let jwks = EtaggedJson::of(document).map_err(|error| anyhow::anyhow!(error.0.detail))?;
        Ok(Self { signing: published.swap_remove(0), jwks, verifying, verified: VerifiedTokens::default() })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.signing.kid() == other.signing.kid() && self.jwks == other.jwks
    }
}

/// Access tokens whose signature was verified: a check takes longer than all the rest of most requests. Part of the keys
/// that it was checked with, and gone with them. Whatever changes with time is looked at each time: see
/// [`super::authorization::authorize_player`].
#[derive(Default)]
struct VerifiedTokens(RwLock<Generations>);

/// The younger, and the one before it: what is in neither was not shown for long.
#[derive(Default)]
struct Generations([HashMap<[u8; 32], Arc<Claims>>; 2]);

/// Most tokens in one generation: some 4 MB.
const MAX_GENERATION: usize = 8_192;

impl VerifiedTokens {
    fn get(&self, token: &[u8; 32]) -> Option<Arc<Claims>> {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &generations.0;
        if let Some(claims) = young.get(token) {
            return Some(Arc::clone(claims));
        }
        let claims = Arc::clone(old.get(token)?);
        drop(generations);
        self.add(*token, Arc::clone(&claims));
        Some(claims)
    }

    fn add(&self, token: [u8; 32], claims: Arc<Claims>) {
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut generations.0;
        if young.len() >= MAX_GENERATION {
            *old = std::mem::take(young);
        }
        young.insert(token, claims);
    }
}

fn fingerprint(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

impl Tokens {
    /// Loads the keys every replica shares, making them on first start.
    pub async fn load(database: &Database, config: &Config) -> anyhow::Result<Self> {
        signing_keys::ensure_first(database).await?;
        let mut seed = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut seed).context("no randomness")?;
        let succession = shared_secret(database, "refresh_succession", &seed).await?;
        Ok(Self {
            keys: RwLock::new(Arc::new(Keys::load(database, &config.issuer).await?)),
            succession: hmac::Key::new(hmac::HMAC_SHA256, &succession),
            issuer: config.issuer.clone(),
            game: config.game.clone(),
        })
    }

    /// Takes over what happens to the keys, until it is dropped.
    pub async fn reload_keys(&self, database: &Database) {
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            match Keys::load(database, &self.issuer).await {
                // The keys are the same, so tokens that were verified with them stay verified.
                Ok(keys) if self.keys().is_same(&keys) => {}
                Ok(keys) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys),
                Err(error) => tracing::warn!("the signing keys stay as they are: {error:#}"),
            }
        }
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The published keys, as they go out.
    pub fn jwks(&self) -> EtaggedJson {
        self.keys().jwks.clone()
    }

    /// An id for a token, by which a ticket is used once.
    pub fn new_id() -> String {
        Uuid::now_v7().simple().to_string()
    }

    /// An access token, or a ticket for one server: `ticket_for` is its id and the ticket's own.
    pub fn sign(
        &self,
        subject: &Subject<'_>,
        ticket_for: Option<(&str, &str)>,
        lifetime_seconds: u32,
        now: i64,
    ) -> ApiResult<String> {
        let iat = u64::try_from(now / 1000).unwrap_or_default();
        let (kind, aud, jti) = match ticket_for {
            Some((server_id, ticket_id)) => (TokenKind::Join, server_id.to_owned(), ticket_id.to_owned()),
            None => (TokenKind::Access, access_audience(&self.game), Self::new_id()),
        };
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: subject.player_id.to_owned(),
            aud,
            exp: iat + u64::from(lifetime_seconds),
            iat,
            jti,
            // Also of an account from when more was taken for a name.
            name: unicode::clean(subject.name).into_owned(),
            sid: subject.session_id.map(str::to_owned),
        };
        self.keys().signing.sign(kind, &claims).map_err(|error| anyhow::Error::from(error).into())
    }

    /// The claims of an access token that [`Tokens::verify`] has verified before, under the same keys. It may have expired
    /// since.
    pub fn cached_claims(&self, token: &str) -> Option<Arc<Claims>> {
        self.keys().verified.get(&fingerprint(token))
    }

    /// The claims of a token we issued. `server_id` is the audience a ticket must have.
    pub fn verify(
        &self,
        token: &str,
        server_id: Option<&str>,
        now: i64,
    ) -> ApiResult<(TokenKind, Arc<Claims>)> {
        // One clock, the database's, issues and judges: nothing has to be forgiven.
        self.verify_with(token, server_id, now, Leeway::from_seconds(0)?)
    }

    /// The claims of a ticket for `server_id` by this machine's clock, which may differ from the database's: for a relay, which lets
    /// players in while the database is away.
    pub fn verify_ticket_offline(&self, ticket: &str, server_id: &str) -> ApiResult<Arc<Claims>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or_default();
        match self.verify_with(ticket, Some(server_id), now, Leeway::default())? {
            (TokenKind::Join, claims) => Ok(claims),
            (TokenKind::Access, _) => Err(refused(Rejection::WrongType)),
        }
    }

    fn verify_with(
        &self,
        token: &str,
        server_id: Option<&str>,
        now: i64,
        leeway: Leeway,
    ) -> ApiResult<(TokenKind, Arc<Claims>)> {
        limits::token("token", token)?;
        let unverified = Unverified::parse(token).map_err(refused)?;
        let kind = unverified.kind();
        let audience = match (kind, server_id) {
            (TokenKind::Access, _) => access_audience(&self.game),
            (TokenKind::Join, Some(id)) => id.to_owned(),
            (TokenKind::Join, None) => return Err(refused(Rejection::WrongAudience)),
        };
        let now = u64::try_from(now / 1000).unwrap_or_default();
        let expected = Validation { kind, audience: &audience, now, leeway };
        let keys = self.keys();
        let claims = Arc::new(unverified.verify(&keys.verifying, &expected).map_err(refused)?);
        if kind == TokenKind::Access {
            keys.verified.add(fingerprint(token), Arc::clone(&claims));
        }
        Ok((kind, claims))
    }

    /// What a refresh token is traded for: always the same for the same token.
    pub fn successor(&self, refresh_token: &str) -> String {
        self.derived(refresh_token.as_bytes())
    }

    /// The first refresh token of a session that was begun under an idempotency key: always the same for the same session.
    pub fn first_refresh_token(&self, key: &str, session_id: &str) -> String {
        // No refresh token begins like this: it is the successor of none.
        self.derived(format!("idempotency-key {key} {session_id}").as_bytes())
    }

    fn derived(&self, from: &[u8]) -> String {
        let tag = hmac::sign(&self.succession, from);
        format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}

/// The player a token is issued to.
pub struct Subject<'a> {
    pub player_id: &'a str,
    pub name: &'a str,
    /// The session it was got with, which it ends with.
    pub session_id: Option<&'a str>,
}

/// Refuses claims whose time is over (RFC 7519 §4.1.4).
pub fn unexpired(claims: &Claims, now: i64) -> ApiResult<()> {
    if u64::try_from(now / 1000).unwrap_or_default() >= claims.exp {
        return Err(refused(Rejection::Expired));
    }
    Ok(())
}

/// The error reply names no reason; the log does.
fn refused(rejection: Rejection) -> ApiError {
    tracing::debug!(reason = %rejection, "token refused");
    match rejection {
        Rejection::Expired => ApiError::new(Code::TokenExpired, "the token is past its time"),
        Rejection::ClockNotSet => anyhow::anyhow!("the database's clock is not set").into(),
        _ => ApiError::new(Code::TokenInvalid, "the token does not verify"),
    }
}

const REFRESH_PREFIX: &str = "grt_";

/// A first refresh token.
pub fn new_refresh_token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    Ok(format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}
