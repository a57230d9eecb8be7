//! Mails to players. They are written and sent behind the requests that cause them: how long it takes, and whether there is
//! anybody to write to, must not show in a reply.

pub mod codes;
mod transport;

use std::time::{Duration, Instant};

use sqlx::Row;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::accounts::{EmailAccounts, address};
use crate::auth::audit::Event;
use crate::config::Config;
use crate::digest::sha256;
use crate::http::Outcome;
use crate::http::rate_limit::{Counted, MAILS_TO};
use crate::state::AppState;

pub use transport::{MailTarget, Sender, target};

/// Letters that wait to be sent. More are dropped: players ask again, attackers do not matter.
const WAITING: usize = 1_000;
pub const VERIFICATION_MS: i64 = 24 * 3_600 * 1_000;
pub const RESET_MS: i64 = 30 * 60 * 1_000;
const ATTEMPTS: u32 = 3;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(5);

/// A mail to be written.
#[derive(Debug)]
pub enum Letter {
    /// A code that proves an address.
    Verification {
        /// Whose address.
        player_id: String,
    },
    /// A code for another password.
    PasswordReset {
        /// The address somebody gave.
        email: String,
    },
    /// The password was changed: news to whoever did not do it.
    PasswordChanged {
        /// Whose.
        player_id: String,
    },
}

/// A finished mail. Its lines have at most 76 characters, so that none has to be folded.
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
}

/// Where letters are handed in.
pub struct Mailbox(mpsc::Sender<Letter>);

impl Mailbox {
    /// Has a letter written and sent.
    pub fn write(&self, letter: Letter) {
        if self.0.try_send(letter).is_err() {
            metrics::counter!("backend_mails_total", "outcome" => "dropped").increment(1);
            tracing::warn!("a mail was dropped: too many wait");
        }
    }
}

/// A mailbox, and its letters for [`run`].
pub fn mailbox() -> (Mailbox, mpsc::Receiver<Letter>) {
    let (sender, letters) = mpsc::channel(WAITING);
    (Mailbox(sender), letters)
}

/// Writes and sends letters until the task is aborted.
pub fn run(state: AppState, sender: Sender, mut letters: mpsc::Receiver<Letter>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(letter) = letters.recv().await {
            match compose(&state, letter).await {
                Ok(Some(mail)) => send(&sender, mail).await,
                Ok(None) => {}
                Err(refusal) => tracing::error!(error = refusal.0.detail, "a mail could not be written"),
            }
        }
    })
}

async fn send(sender: &Sender, mail: Mail) {
    for attempt in 1..=ATTEMPTS {
        match sender.send(&mail).await {
            Ok(()) => {
                metrics::counter!("backend_mails_total", "outcome" => "sent").increment(1);
                return;
            }
            Err(error) if attempt == ATTEMPTS || !sender.may_recover() => {
                metrics::counter!("backend_mails_total", "outcome" => "failed").increment(1);
                tracing::error!("a mail was not sent: {error:#}");
            }
            Err(error) => {
                tracing::warn!("a mail was not sent, the next try follows: {error:#}");
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
        }
    }
}

async fn compose(state: &AppState, letter: Letter) -> Outcome<Option<Mail>> {
    match letter {
        Letter::Verification { player_id } => verification(state, &player_id).await,
        Letter::PasswordReset { email } => password_reset(state, email).await,
        Letter::PasswordChanged { player_id } => {
            let row = sqlx::query("SELECT email FROM players WHERE player_id = $1")
                .bind(player_id)
                .fetch_optional(state.database.pool())
                .await?;
            let email = row.map(|row| row.try_get::<Option<String>, _>("email")).transpose()?.flatten();
            let text = "The password of your account was changed.\n\
                        Its other sessions were ended.\n\n\
                        If that was not you, ask for a new password in the game at once.\n";
            Ok(email.map(|to| mail(state, to, "your password was changed", text)))
        }
    }
}

fn mail(state: &AppState, to: String, subject: &str, text: &str) -> Mail {
    let name = state.config.mail_name.as_deref().unwrap_or(&state.config.game);
    Mail { to, subject: format!("{name}: {subject}"), text: text.to_owned() }
}

/// Nobody's letter box is filled by others.
fn too_many_to(state: &AppState, email: &str) -> bool {
    let counted = Counted::MailsTo(sha256(address::mailbox(email).as_bytes()));
    let refused = state.rate_limits.take(counted, MAILS_TO, Instant::now()).is_err();
    if refused {
        metrics::counter!("backend_rate_limited_total", "limit" => "mails").increment(1);
    }
    refused
}

async fn verification(state: &AppState, player_id: &str) -> Outcome<Option<Mail>> {
    let mut work = state.database.begin().await?;
    let row = sqlx::query("SELECT email, pending_email, email_verified_at FROM players WHERE player_id = $1")
        .bind(player_id)
        .fetch_optional(&mut *work.tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let pending: Option<String> = row.try_get("pending_email")?;
    let verified = row.try_get::<Option<i64>, _>("email_verified_at")?.is_some();
    let email = match (pending, verified) {
        (Some(pending), _) => pending,
        (None, true) => return Ok(None),
        (None, false) => match row.try_get("email")? {
            Some(email) => email,
            None => return Ok(None),
        },
    };
    if too_many_to(state, &email) {
        return Ok(None);
    }
    let taken = sqlx::query("SELECT player_id FROM players WHERE email = $1 AND player_id <> $2")
        .bind(&email)
        .bind(player_id)
        .fetch_optional(&mut *work.tx)
        .await?;
    if taken.is_some() {
        let text = "Somebody, perhaps you, wanted to register this address.\n\
                    It has an account already.\n\n\
                    If it was you, log in with it, or ask for a new password in the game.\n\
                    Otherwise there is nothing to do.\n";
        return Ok(Some(mail(state, email, "you have an account already", text)));
    }
    let code = codes::new()?;
    let hash = codes::hash(codes::VERIFICATION, &email, &code);
    codes::keep(&mut work, player_id, codes::VERIFICATION, &hash, VERIFICATION_MS).await?;
    work.commit().await?;
    let text = format!(
        "This code shows the game that the address is yours:\n\n    {code}\n\n\
         It is good for 24 hours.\nIf you did not ask for it, there is nothing to do.\n"
    );
    Ok(Some(mail(state, email, "confirm your address", &text)))
}

async fn password_reset(state: &AppState, email: String) -> Outcome<Option<Mail>> {
    if too_many_to(state, &email) {
        return Ok(None);
    }
    let mut work = state.database.begin().await?;
    let row = sqlx::query("SELECT player_id FROM players WHERE email = $1")
        .bind(&email)
        .fetch_optional(&mut *work.tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let player_id: String = row.try_get("player_id")?;
    let code = codes::new()?;
    let hash = codes::hash(codes::RESET, &email, &code);
    codes::keep(&mut work, &player_id, codes::RESET, &hash, RESET_MS).await?;
    work.commit().await?;
    Event::new("password_reset_requested").player(&player_id).ok();
    let text = format!(
        "With this code you can set another password in the game:\n\n    {code}\n\n\
         It is good for 30 minutes.\nIf you did not ask for it, there is nothing to do.\n"
    );
    Ok(Some(mail(state, email, "set another password", &text)))
}

/// How addresses make accounts when the operator did not say: only mails that really go out can be waited for.
pub fn email_accounts(config: &Config) -> EmailAccounts {
    let verified = config.mail.reaches_players();
    config.email_accounts.unwrap_or(if verified { EmailAccounts::Verified } else { EmailAccounts::Open })
}
