//! Where mails go, as `--mail` names it.

use std::path::PathBuf;

use axum::http::Uri;
use secrecy::SecretString;

/// What `--mail` names.
#[derive(Debug, Clone, Default)]
pub enum MailTarget {
    /// Mails are not sent.
    #[default]
    None,
    /// Standard error, for development.
    Console,
    /// A folder, one file for each mail, for development.
    Folder(PathBuf),
    /// A mail server's URL, which may hold a password.
    Smtp(SecretString),
}

impl MailTarget {
    /// Whether a player gets to read it.
    pub const fn reaches_players(&self) -> bool {
        matches!(self, Self::Smtp(_))
    }
}

/// `none`, `console`, `file:FOLDER`, `smtps://…` or `smtp://…?tls=required`. Without TLS only to this machine.
pub fn target(text: &str) -> Result<MailTarget, String> {
    match text {
        "none" => return Ok(MailTarget::None),
        "console" => return Ok(MailTarget::Console),
        _ => {}
    }
    if let Some(folder) = text.strip_prefix("file:") {
        return Ok(MailTarget::Folder(folder.into()));
    }
    let rule = || "must be none, console, file:FOLDER, smtps://… or smtp://…?tls=required".to_owned();
    let uri: Uri = text.parse().map_err(|_| rule())?;
    let host = uri.host().ok_or_else(rule)?;
    let local = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let required = uri.query().is_some_and(|query| query.split('&').any(|option| option == "tls=required"));
    match uri.scheme_str() {
        Some("smtps") => {}
        Some("smtp") if required || local => {}
        Some("smtp") => return Err("mails without TLS go to this machine only; add ?tls=required".to_owned()),
        _ => return Err(rule()),
    }
    Ok(MailTarget::Smtp(text.into()))
}

#[cfg(test)]
mod tests;
