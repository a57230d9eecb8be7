//! Where mails go: to a mail server, to a folder, to the terminal, or nowhere.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::Uri;
use lettre::message::{Mailbox, header::ContentType};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::Mail;
use crate::config::Config;

const TIMEOUT: Duration = Duration::from_secs(20);

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

/// Sends mails.
pub struct Sender {
    from: Mailbox,
    way: Way,
}

enum Way {
    None,
    Console,
    Folder(PathBuf),
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
}

impl Sender {
    /// The sender that `config` names.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let from = match (&config.mail_from, &config.mail) {
            (Some(from), _) => from.clone(),
            (None, MailTarget::Smtp(_)) => bail!("mails need a sender: set --mail-from"),
            (None, _) => "backend@localhost".to_owned(),
        };
        let from =
            from.parse().context("--mail-from is not an address such as Game <noreply@example.org>")?;
        let way = match &config.mail {
            MailTarget::None => Way::None,
            MailTarget::Console => Way::Console,
            MailTarget::Folder(folder) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
                Way::Folder(folder.clone())
            }
            MailTarget::Smtp(url) => {
                // Its errors name parts of the URL, but never the password.
                let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret())
                    .context("--mail is not a mail server's URL")?;
                Way::Smtp(server.timeout(Some(TIMEOUT)).build())
            }
        };
        Ok(Self { from, way })
    }

    pub async fn send(&self, mail: &Mail) -> anyhow::Result<()> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(mail.to.parse().context("no mail can be sent to this address")?)
            .subject(&mail.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())
            .context("a mail cannot be put together")?;
        match &self.way {
            Way::None => bail!("there is no mail server; set --mail"),
            Way::Console => {
                let mut output = std::io::stderr().lock();
                writeln!(output, "--- mail to {}: {}\n{}---", mail.to, mail.subject, mail.text)
                    .context("cannot write a mail to standard error")
            }
            Way::Folder(folder) => {
                let name = Uuid::now_v7().to_string();
                let (part, whole) = (folder.join(format!("{name}.part")), folder.join(format!("{name}.eml")));
                tokio::fs::write(&part, message.formatted()).await?;
                tokio::fs::rename(&part, &whole).await.context("cannot write a mail")
            }
            Way::Smtp(server) => {
                server.send(message).await.context("the mail server did not take it")?;
                Ok(())
            }
        }
    }

    /// Whether trying again may help.
    pub const fn may_recover(&self) -> bool {
        matches!(self.way, Way::Smtp(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_goes_through_tls_or_stays_here() {
        for good in [
            "none",
            "console",
            "file:/tmp/mails",
            "smtps://u:p@mail.example.org",
            "smtp://127.0.0.1:2525",
            "smtp://mail.example.org:587?tls=required",
            "smtp://[::1]:25",
        ] {
            assert!(target(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "mail.example.org",
            "smtp://mail.example.org",
            "smtp://mail.example.org?tls=opportunistic",
            "https://mail.example.org",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
        let secret = format!("{:?}", target("smtps://user:hunter2@mail.example.org").expect("good"));
        assert!(!secret.contains("hunter2"), "{secret}");
    }
}
