//! A provider of external logins, as `--identity-provider` names it.

use axum::http::Uri;
use backend_protocol::limits;

/// A provider of identities and its hook, as the operator writes it: `steam=https://verify.example.org/steam`.
#[derive(Clone)]
pub struct IdentityProvider {
    /// Name that logins use.
    pub name: String,
    /// URL of its hook.
    pub hook: String,
}

/// Without the hook, whose URL may hold a password.
impl std::fmt::Debug for IdentityProvider {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("IdentityProvider").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads `NAME=URL`. Plain HTTP only to this machine.
pub fn provider(text: &str) -> Result<IdentityProvider, String> {
    let (name, hook) = text.split_once('=').ok_or("must be NAME=URL")?;
    limits::identifier("name", name, limits::MAX_PROVIDER).map_err(|error| error.to_string())?;
    let uri: Uri = hook.parse().map_err(|_| "the hook must be a URL")?;
    let host = uri.host().ok_or("the hook must be a URL with a host")?.trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if local => {}
        _ => return Err("the hook must be https, or http on this machine".to_owned()),
    }
    Ok(IdentityProvider { name: name.to_owned(), hook: hook.to_owned() })
}

#[cfg(test)]
mod tests;
