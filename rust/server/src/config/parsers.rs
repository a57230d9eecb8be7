//! Values of settings as the operator writes them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::{HeaderValue, Uri};
use ipnet::IpNet;
use secrecy::SecretString;

pub fn secret(text: &str) -> Result<SecretString, &'static str> {
    if text.is_empty() { Err("must not be empty") } else { Ok(text.into()) }
}

pub fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("must not be empty") } else { Ok(text.to_owned()) }
}

pub fn path(text: &str) -> Result<PathBuf, &'static str> {
    not_empty(text).map(PathBuf::from)
}

/// The name of an environment: 1 to 16 of `[a-z0-9-]`. It stands in every key, between underscores.
pub fn environment(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=16).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 16 characters of a-z, 0-9 and '-'".to_owned())
    }
}

/// A network as the operator writes it: `10.0.0.0/8`, `fd00::/8`, or one address.
pub fn network(text: &str) -> Result<IpNet, String> {
    let one = || IpAddr::from_str(text).map(IpNet::from);
    IpNet::from_str(text)
        .or_else(|_| one())
        .map_err(|_| "must be an address or a network such as 10.0.0.0/8".to_owned())
}

/// An origin (RFC 6454) as the operator writes it, or `*`.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let rule = || "must be an origin such as https://play.example.org, without a path, or *".to_owned();
    if text != "*" {
        let uri: Uri = text.parse().map_err(|_| rule())?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        let bare = uri.authority().is_some_and(|host| !host.as_str().contains('@'));
        // `http` adds the path; a browser's Origin has none.
        if !web || !bare || uri.path() != "/" || uri.query().is_some() || text.ends_with('/') {
            return Err(rule());
        }
    }
    HeaderValue::from_str(&text.to_ascii_lowercase()).map_err(|_| rule())
}

#[cfg(test)]
mod tests;
