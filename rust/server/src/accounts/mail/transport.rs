//! Where mails go: to a mail server, to a folder, to the terminal, or nowhere.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use backend_protocol::limits;
use lettre::message::{Mailbox, header::ContentType};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::Mail;
use crate::config::mail_target::MailTarget;
use crate::config::{Config, InvalidSetting};
use crate::private_files;

const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends mails.
pub struct MailTransport {
    from: Mailbox,
    route: Route,
}

enum Route {
    None,
    Console,
    Folder(PathBuf),
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
}

impl MailTransport {
    /// The sender that `config` names.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let from = match (&config.mail_from, &config.mail) {
            (Some(from), _) => from.clone(),
            (None, MailTarget::Smtp(_)) => {
                bail!(InvalidSetting(
                    "mails need a sender: set --mail-from (or BACKEND_MAIL_FROM)".to_owned()
                ))
            }
            (None, _) => "backend@localhost".to_owned(),
        };
        let from = from.parse().map_err(|_| {
            InvalidSetting(format!(
                "--mail-from {from:?}: is not an address such as Game <noreply@example.org>"
            ))
        })?;
        let route = match &config.mail {
            MailTarget::None => Route::None,
            MailTarget::Console => Route::Console,
            MailTarget::Folder(folder) => {
                create_folder(folder)
                    .with_context(|| format!("--mail file:{} cannot be used", folder.display()))?;
                Route::Folder(folder.clone())
            }
            MailTarget::Smtp(url) => {
                // Its errors name parts of the URL, but never the password.
                let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret())
                    .context("--mail is not a mail server's URL")?;
                Route::Smtp(server.timeout(Some(SMTP_TIMEOUT)).build())
            }
        };
        Ok(Self { from, route })
    }

    pub async fn send(&self, mail: &Mail) -> anyhow::Result<()> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, plain_address(&mail.to)?))
            .subject(&mail.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())
            .context("a mail cannot be put together")?;
        match &self.route {
            Route::None => bail!("there is no mail server; set --mail"),
            Route::Console => {
                let mut output = std::io::stderr().lock();
                writeln!(output, "--- mail to {}: {}\n{}---", mail.to, mail.subject, mail.text)
                    .context("cannot write a mail to standard error")
            }
            Route::Folder(folder) => {
                let name = Uuid::now_v7().to_string();
                let (part, whole) = (folder.join(format!("{name}.part")), folder.join(format!("{name}.eml")));
                write_private(&part, message.formatted()).await.context("cannot write a mail")?;
                tokio::fs::rename(&part, &whole).await.context("cannot write a mail")
            }
            Route::Smtp(server) => {
                server.send(message).await.context("the mail server did not take it")?;
                Ok(())
            }
        }
    }

    /// Whether trying again may help.
    pub const fn may_recover(&self) -> bool {
        matches!(self.route, Route::Smtp(_))
    }
}

/// One address, and never a name with another address behind it.
fn plain_address(text: &str) -> anyhow::Result<Address> {
    limits::email("to", text).context("no mail can be sent to this address")?;
    let (local, domain) = text.rsplit_once('@').context("no mail can be sent to this address")?;
    Address::new(local, domain).context("no mail can be sent to this address")
}

/// Mails hold codes that open accounts.
fn create_folder(folder: &Path) -> anyhow::Result<()> {
    let is_mail =
        |name: &str| matches!(Path::new(name).extension().and_then(OsStr::to_str), Some("eml" | "part"));
    private_files::create_folder(folder, is_mail)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_mail) {
            private_files::check_file(&entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

async fn write_private(path: &Path, bytes: Vec<u8>) -> std::io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    let mut file = options.open(path).await?;
    file.write_all(&bytes).await?;
    file.flush().await
}
