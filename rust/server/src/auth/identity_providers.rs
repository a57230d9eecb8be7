//! Logins through other platforms. The operator configures a hook for each platform: a small service that verifies the
//! platform's ticket and returns whose it is. A token never chooses where it is verified.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use backend_protocol::{Code, limits};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::auth::audit::Event;
use crate::config::identity_provider::IdentityProvider;
use crate::http::{ApiError, ApiResult};

const HOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests to hooks at a time.
const MAX_CONCURRENT_REQUESTS: usize = 64;
const MAX_REPLY_BYTES: usize = 16 * 1024;
/// Longest name of a player at a platform, in characters.
const MAX_SUBJECT: usize = 128;

/// A player's identity at a platform.
pub struct Identity {
    pub subject: String,
    pub display_name: Option<String>,
}

#[derive(Deserialize)]
struct HookReply {
    subject: String,
    #[serde(default)]
    display_name: Option<String>,
}

/// The configured providers and the client that calls their hooks.
pub struct IdentityProviders {
    hooks: HashMap<String, String>,
    secret: Option<SecretString>,
    http: reqwest::Client,
    permits: Semaphore,
}

impl IdentityProviders {
    pub fn new(providers: &[IdentityProvider], secret: Option<SecretString>) -> anyhow::Result<Self> {
        let mut hooks = HashMap::new();
        for IdentityProvider { name, hook } in providers {
            if hooks.insert(name.clone(), hook.clone()).is_some() {
                bail!("the identity provider {name} is there twice");
            }
        }
        let http = reqwest::Client::builder()
            .timeout(HOOK_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("cannot ask identity providers")?;
        Ok(Self { hooks, secret, http, permits: Semaphore::new(MAX_CONCURRENT_REQUESTS) })
    }

    /// Verifies a platform's token through the hook of its provider and returns whose it is.
    pub async fn verify(&self, provider: &str, token: &str) -> ApiResult<Identity> {
        let hook = self
            .hooks
            .get(provider)
            .ok_or_else(|| ApiError::field("provider", "is not one that this backend knows"))?;
        let away =
            || ApiError::later(Code::Unavailable, 5, "the identity provider does not answer; try again");
        let _permit = self.permits.acquire().await.map_err(anyhow::Error::from)?;
        let mut request =
            self.http.post(hook).json(&serde_json::json!({ "provider": provider, "token": token }));
        if let Some(secret) = &self.secret {
            request = request.bearer_auth(secret.expose_secret());
        }
        let mut reply = request.send().await.map_err(|error| {
            tracing::warn!(provider, error = %error.without_url(), "an identity hook does not answer");
            away()
        })?;
        match reply.status().as_u16() {
            200 => {}
            400..=404 | 422 => {
                Event::new("login").method("custom").refused("the provider does not know the token");
                return Err(ApiError::new(Code::TokenInvalid, "the identity provider refused the token"));
            }
            status => {
                tracing::warn!(provider, status, "an identity hook returned an error");
                return Err(away());
            }
        }
        let mut body = Vec::new();
        while let Some(part) = reply.chunk().await.map_err(|_| away())? {
            body.extend_from_slice(&part);
            if body.len() > MAX_REPLY_BYTES {
                tracing::warn!(provider, "an identity hook answers at more length than it may");
                return Err(away());
            }
        }
        let identity: HookReply = serde_json::from_slice(&body).map_err(|error| {
            tracing::warn!(provider, %error, "an identity hook's reply cannot be read");
            away()
        })?;
        if limits::opaque("subject", &identity.subject, 1, MAX_SUBJECT).is_err() {
            tracing::warn!(provider, "an identity hook returned no valid subject");
            return Err(away());
        }
        // A name that does not fit is no reason to turn a player away.
        let fits = |name: &String| limits::text("display_name", name, 1, limits::MAX_DISPLAY_NAME).is_ok();
        Ok(Identity { subject: identity.subject, display_name: identity.display_name.filter(fits) })
    }
}
