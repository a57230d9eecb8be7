//! The keys the backend signs with, the tokens it issues, and how it reads them back.

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use backend_protocol::validation::{
    ACCESS_TOKEN_TYPE, Claims, JOIN_TICKET_TYPE, Jwk, Jwks, TokenKind, access_audience,
};
use backend_protocol::{Code, limits};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sqlx::Row;
use uuid::Uuid;

use crate::config::Config;
use crate::database::Database;
use crate::problem::{Outcome, Refusal};

/// Signs and reads tokens.
pub struct Tokens {
    kid: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    jwk: Jwk,
    /// Derives a refresh token's successor from the token, so that a replay gets the same one and none is stored.
    succession: hmac::Key,
    issuer: String,
    game: String,
}

impl Tokens {
    /// Loads the keys every replica shares, making them on first start.
    pub async fn load(database: &Database, config: &Config) -> anyhow::Result<Self> {
        let made = Ed25519KeyPair::generate().context("cannot make a signing key")?;
        let made = made.to_pkcs8v1().context("cannot make a signing key")?;
        let pkcs8 = shared_secret(database, "signing_key", made.as_ref()).await?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).context("the stored signing key is damaged")?;
        let mut seed = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut seed).context("no randomness")?;
        let succession = shared_secret(database, "refresh_succession", &seed).await?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let kid = sha256(public.as_bytes())[..16].to_owned();
        let jwk = Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: public.clone(),
            kid: kid.clone(),
            alg: "EdDSA".into(),
            usage: "sig".into(),
        };
        Ok(Self {
            kid,
            signing: EncodingKey::from_ed_der(&pkcs8),
            verifying: DecodingKey::from_ed_components(&public)?,
            jwk,
            succession: hmac::Key::new(hmac::HMAC_SHA256, &succession),
            issuer: config.issuer.clone(),
            game: config.game.clone(),
        })
    }

    pub fn jwks(&self) -> Jwks {
        Jwks { keys: vec![self.jwk.clone()] }
    }

    /// An access token, or a ticket for one server.
    pub fn sign(
        &self,
        player_id: &str,
        name: &str,
        ticket_for: Option<&str>,
        lives: u32,
        now: i64,
    ) -> Outcome<String> {
        let iat = u64::try_from(now / 1000).unwrap_or_default();
        let (typ, aud) = match ticket_for {
            Some(server_id) => (JOIN_TICKET_TYPE, server_id.to_owned()),
            None => (ACCESS_TOKEN_TYPE, access_audience(&self.game)),
        };
        let header =
            Header { typ: Some(typ.into()), kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: player_id.to_owned(),
            aud,
            exp: iat + u64::from(lives),
            iat,
            jti: Uuid::now_v7().simple().to_string(),
            name: name.to_owned(),
        };
        jsonwebtoken::encode(&header, &claims, &self.signing)
            .map_err(|error| anyhow::anyhow!(error).context("cannot sign").into())
    }

    /// The claims of a token we issued. `server_id` is the audience a ticket must have.
    pub fn read(&self, token: &str, server_id: Option<&str>, now: i64) -> Outcome<(TokenKind, Claims)> {
        let invalid = || Refusal::new(Code::TokenInvalid, "the token does not verify");
        limits::token("token", token)?;
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid())?;
        let (kind, audience) = match (header.typ.as_deref(), server_id) {
            (Some(ACCESS_TOKEN_TYPE), _) => (TokenKind::Access, access_audience(&self.game)),
            (Some(JOIN_TICKET_TYPE), Some(id)) => (TokenKind::Join, id.to_owned()),
            _ => return Err(invalid()),
        };
        if header.kid.as_deref() != Some(self.kid.as_str()) {
            return Err(invalid());
        }
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[&audience]);
        // Judged below by the database's clock, which issued it.
        rules.validate_exp = false;
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.verifying, &rules).map_err(|_| invalid())?.claims;
        if u64::try_from(now / 1000).unwrap_or(u64::MAX) >= claims.exp {
            return Err(Refusal::new(Code::TokenExpired, "the token is past its time"));
        }
        Ok((kind, claims))
    }

    /// What a refresh token is traded for: always the same for the same token.
    pub fn successor(&self, refresh_token: &str) -> String {
        let tag = hmac::sign(&self.succession, refresh_token.as_bytes());
        format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}

const REFRESH_PREFIX: &str = "grt_";

/// A first refresh token.
pub fn new_refresh_token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    Ok(format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(
        String::with_capacity(64),
        |mut text, byte| {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        },
    )
}

/// The secret all replicas share under `name`; the first of them to start brings `offered`.
pub async fn shared_secret(database: &Database, name: &str, offered: &[u8]) -> anyhow::Result<Vec<u8>> {
    sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(STANDARD.encode(offered))
        .execute(database.pool())
        .await?;
    let row = sqlx::query("SELECT value FROM secrets WHERE name = $1")
        .bind(name)
        .fetch_one(database.pool())
        .await?;
    let text: String = row.try_get("value")?;
    STANDARD.decode(text).context("a stored secret is damaged")
}
