//! Mails to players. They are written and sent behind the requests that cause them: how long it takes, and whether there is
//! anybody to write to, must not show in a reply.

pub mod codes;
pub mod queue;
mod transport;

use std::time::{Duration, Instant};

use sqlx::Row;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::accounts::address;
use crate::auth::audit::Event;
use crate::config::{Config, EmailAccounts};
use crate::digest::sha256;
use crate::http::ApiResult;
use crate::http::rate_limit::{Counted, MAILS_TO};
use crate::state::AppState;

pub use queue::MailJob;
pub use transport::MailTransport;

pub const VERIFICATION_MS: i64 = 24 * 3_600 * 1_000;
pub const RESET_MS: i64 = 30 * 60 * 1_000;
const MAX_ATTEMPTS: u32 = 3;
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A finished mail. Its lines have at most 76 characters, so that none has to be folded.
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
}

/// Composes and sends mails until the task is aborted.
pub fn run(state: AppState, transport: MailTransport, mut jobs: mpsc::Receiver<MailJob>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(job) = jobs.recv().await {
            match compose(&state, job).await {
                Ok(Some(mail)) => send(&transport, mail).await,
                Ok(None) => {}
                Err(error) => tracing::error!(error = error.0.detail, "a mail could not be written"),
            }
        }
    })
}

async fn send(transport: &MailTransport, mail: Mail) {
    for attempt in 1..=MAX_ATTEMPTS {
        match transport.send(&mail).await {
            Ok(()) => {
                metrics::counter!("backend_mails_total", "outcome" => "sent").increment(1);
                return;
            }
            Err(error) if attempt == MAX_ATTEMPTS || !transport.may_recover() => {
                metrics::counter!("backend_mails_total", "outcome" => "failed").increment(1);
                tracing::error!("a mail was not sent: {error:#}");
            }
            Err(error) => {
                tracing::warn!("a mail was not sent, the next try follows: {error:#}");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

async fn compose(state: &AppState, job: MailJob) -> ApiResult<Option<Mail>> {
    match job {
        MailJob::Verification { player_id } => verification(state, &player_id).await,
        MailJob::PasswordReset { email } => password_reset(state, email).await,
        MailJob::PasswordChanged { player_id } => {
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

/// Whether this address has had too many mails: players cannot flood the inbox of others.
fn is_rate_limited(state: &AppState, email: &str) -> bool {
    let counted = Counted::MailsTo(sha256(address::mailbox(email).as_bytes()));
    let refused = state.rate_limits.take(counted, MAILS_TO, Instant::now()).is_err();
    if refused {
        metrics::counter!("backend_rate_limited_total", "limit" => "mails").increment(1);
    }
    refused
}

async fn verification(state: &AppState, player_id: &str) -> ApiResult<Option<Mail>> {
    let mut tx = state.database.begin().await?;
    let row = sqlx::query("SELECT email, pending_email, email_verified_at FROM players WHERE player_id = $1")
        .bind(player_id)
        .fetch_optional(&mut *tx.conn)
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
    if is_rate_limited(state, &email) {
        return Ok(None);
    }
    let taken = sqlx::query("SELECT player_id FROM players WHERE email = $1 AND player_id <> $2")
        .bind(&email)
        .bind(player_id)
        .fetch_optional(&mut *tx.conn)
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
    codes::store(&mut tx, player_id, codes::VERIFICATION, &hash, VERIFICATION_MS).await?;
    tx.commit().await?;
    let text = format!(
        "This code shows the game that the address is yours:\n\n    {code}\n\n\
         It is good for 24 hours.\nIf you did not ask for it, there is nothing to do.\n"
    );
    Ok(Some(mail(state, email, "confirm your address", &text)))
}

async fn password_reset(state: &AppState, email: String) -> ApiResult<Option<Mail>> {
    if is_rate_limited(state, &email) {
        return Ok(None);
    }
    let mut tx = state.database.begin().await?;
    let row = sqlx::query("SELECT player_id FROM players WHERE email = $1")
        .bind(&email)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let player_id: String = row.try_get("player_id")?;
    let code = codes::new()?;
    let hash = codes::hash(codes::RESET, &email, &code);
    codes::store(&mut tx, &player_id, codes::RESET, &hash, RESET_MS).await?;
    tx.commit().await?;
    Event::new("password_reset_requested").player(&player_id).ok();
    let text = format!(
        "With this code you can set another password in the game:\n\n    {code}\n\n\
         It is good for 30 minutes.\nIf you did not ask for it, there is nothing to do.\n"
    );
    Ok(Some(mail(state, email, "set another password", &text)))
}

/// The default of `--email-accounts`: codes can be required only if mails are really sent.
pub fn email_accounts(config: &Config) -> EmailAccounts {
    let verified = config.mail.reaches_players();
    config.email_accounts.unwrap_or(if verified { EmailAccounts::Verified } else { EmailAccounts::Open })
}
