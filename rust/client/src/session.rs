//! A player's session: logging in, staying logged in, coming back.
//!
//! The access token is refreshed at 80 % of its own life by the monotonic clock, by one flight that all callers share.
//! A network error never ends a session; only the backend's explicit word does. The refresh token is on disk before
//! it is used, so that a crash between the two costs no login.

mod accounts;
mod stored_session;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backend_protocol::player_store::PlayerDocuments;
use backend_protocol::session::{
    AnonymousLogin, DeviceLogin, Logout, PasswordLogin, Refresh, Register, Session as Granted,
};
use backend_protocol::{Code, limits};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::backend::Backend;
use crate::api::retry;
use crate::error::{ClientError, Fault};
use crate::platform::clock::Clock;
use crate::platform::storage::Storage;
use stored_session::{ProfileLock, StoredSession};

/// News of a session, told on a worker thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A login or a restore succeeded.
    LoggedIn(Account),
    /// The tokens were renewed.
    Refreshed,
    /// The session was not renewed for too long, or was ended elsewhere; the player must log in again.
    Expired(ClientError),
    /// The backend ended the session because its refresh token was used twice: somebody may have a copy of it.
    Revoked(ClientError),
    /// The account may not play.
    Banned(ClientError),
    /// The player logged out.
    LoggedOut,
}

/// Who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's id.
    pub player_id: String,
    /// Name shown to others.
    pub display_name: String,
    /// Whether the login made the account.
    pub created: bool,
    /// Whether this is what was kept of an earlier run, because the backend did not answer. The first call that needs the
    /// backend, or the renewal in the background, settles it.
    pub offline: bool,
}

/// Told about [`Event`]s, on a worker thread.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// A session. Cheap to clone; clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    profile: String,
    on_event: OnEvent,
    active: Mutex<Option<Active>>,
    /// Held by whoever talks to the backend about tokens, so that there is one flight.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Active {
    account: Account,
    access_token: SecretString,
    refresh_token: SecretString,
    refresh_at: Instant,
    expires_at: Instant,
}

impl Session {
    /// A session that is not logged in. `profile` names its file, so that several can live side by side.
    pub fn new(
        backend: Arc<dyn Backend>,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        profile: impl Into<String>,
        on_event: OnEvent,
    ) -> Self {
        Self(Arc::new(Inner {
            backend,
            storage,
            clock,
            profile: profile.into(),
            on_event,
            active: Mutex::new(None),
            flight: tokio::sync::Mutex::default(),
        }))
    }

    /// Makes a guest account.
    pub async fn login_anonymous(&self, display_name: Option<String>) -> Result<Account, ClientError> {
        let _flight = self.0.flight.lock().await;
        let granted = self.0.backend.login_anonymous(&AnonymousLogin { display_name }).await?;
        self.begin(granted).await
    }

    /// Logs this device in, with an id made and kept on first use when `device_id` is `None`.
    pub async fn login_device(
        &self,
        device_id: Option<String>,
        display_name: Option<String>,
    ) -> Result<Account, ClientError> {
        let _flight = self.0.flight.lock().await;
        let device_id = match device_id {
            Some(id) => id,
            None => self.own_device_id().await?,
        };
        let granted = self.0.backend.login_device(&DeviceLogin { device_id, display_name }).await?;
        self.begin(granted).await
    }

    /// Logs in with e-mail address and password.
    pub async fn login_password(&self, email: String, password: String) -> Result<Account, ClientError> {
        let _flight = self.0.flight.lock().await;
        let granted = self.0.backend.login_password(&PasswordLogin { email, password }).await?;
        self.begin(granted).await
    }

    /// Makes an account with e-mail address and password, and logs in.
    pub async fn register(
        &self,
        email: String,
        password: String,
        display_name: String,
    ) -> Result<Account, ClientError> {
        let _flight = self.0.flight.lock().await;
        let granted = self.0.backend.register_account(&Register { email, password, display_name }).await?;
        self.begin(granted).await
    }

    /// The name under which the session is stored.
    pub fn profile(&self) -> &str {
        &self.0.profile
    }

    /// Takes up the session this profile had when the process last ran. When the backend is away, the player is who it
    /// was, [`Account::offline`], and the session is renewed as soon as the backend is back.
    pub async fn restore(&self) -> Result<Account, ClientError> {
        let _flight = self.0.flight.lock().await;
        let locked = self.lock_profile().await;
        let Some(kept) = self.kept().await? else {
            return Err(ClientError::new(Fault::NotLoggedIn, "there is no session to restore"));
        };
        let traded = match &locked {
            Ok(_) => self.exchange(kept.refresh_token.clone(), true).await,
            Err(error) => Err(error.clone()),
        };
        match traded {
            Ok(granted) => {
                let account = self.adopt(granted, true).await?;
                (self.0.on_event)(Event::LoggedIn(account.clone()));
                Ok(account)
            }
            Err(error) if error.is_unanswered() => {
                tracing::warn!(code = error.code(), "the backend is unreachable; the stored session is used");
                Ok(self.go_on_offline(kept))
            }
            Err(error) => Err(error),
        }
    }

    /// Renews the tokens now.
    pub async fn refresh(&self) -> Result<Account, ClientError> {
        let before = self.active()?.access_token;
        self.refresh_from(&before).await?;
        Ok(self.active()?.account)
    }

    /// Ends the session here, and at the backend if it answers.
    pub async fn logout(&self) -> Result<(), ClientError> {
        let _flight = self.0.flight.lock().await;
        let Some(active) = self.lock().take() else { return Ok(()) };
        // Whoever holds the profile for long must not keep the player from leaving.
        let locked = self.lock_profile().await;
        let newest = self.newest(&active).await;
        if newest.owns_file {
            self.forget().await?;
        }
        drop(locked);
        (self.0.on_event)(Event::LoggedOut);
        let refresh_token = newest.expose();
        match self.0.backend.logout(&Logout { refresh_token }).await {
            Err(error) if error.is_unanswered() => {
                tracing::warn!(
                    code = error.code(),
                    "logged out on this machine; the backend did not receive the logout"
                );
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Who is logged in, if anybody.
    pub fn account(&self) -> Option<Account> {
        self.lock().as_ref().map(|active| active.account.clone())
    }

    /// The player's own documents, as the backend has them.
    pub async fn own_documents(&self) -> Result<PlayerDocuments, ClientError> {
        let backend = Arc::clone(&self.0.backend);
        self.authorized(move |token| {
            let backend = Arc::clone(&backend);
            async move { backend.own_documents(&token).await }
        })
        .await
    }

    /// Runs `call` with a valid access token; once more with a new one when the backend no longer takes it.
    pub async fn authorized<T, F>(&self, call: impl Fn(String) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let token = self.access_token().await?;
        match call(token.expose_secret().to_owned()).await {
            Err(error) if is_stale_token(&error) => {
                self.refresh_from(&token).await?;
                call(self.active()?.access_token.expose_secret().to_owned()).await
            }
            outcome => outcome,
        }
    }

    async fn access_token(&self) -> Result<SecretString, ClientError> {
        let active = self.active()?;
        let now = self.0.clock.now();
        if now < active.refresh_at {
            return Ok(active.access_token);
        }
        match self.refresh_from(&active.access_token).await {
            // Still good, although the backend could not renew it.
            Err(error) if error.is_unanswered() && now < active.expires_at => Ok(active.access_token),
            Err(error) => Err(error),
            Ok(()) => Ok(self.active()?.access_token),
        }
    }

    /// Refreshes unless somebody else already did since `seen` was read.
    async fn refresh_from(&self, seen: &SecretString) -> Result<(), ClientError> {
        let _flight = self.0.flight.lock().await;
        let active = self.active()?;
        if active.access_token.expose_secret() != seen.expose_secret() {
            return Ok(());
        }
        let _locked = self.lock_profile().await?;
        let newest = self.newest(&active).await;
        let granted = self.exchange(newest.expose(), newest.owns_file).await?;
        self.adopt(granted, newest.owns_file).await?;
        (self.0.on_event)(Event::Refreshed);
        Ok(())
    }

    /// Trades a refresh token. The caller holds the flight and the profile, and says whether the file is that token's.
    async fn exchange(&self, refresh_token: String, owns_file: bool) -> Result<Granted, ClientError> {
        let outcome = self.0.backend.refresh(&Refresh { refresh_token }).await;
        if let Err(error) = &outcome {
            let over = [
                (Code::RefreshTokenInvalid, Event::Expired as fn(ClientError) -> Event),
                (Code::RefreshTokenReused, Event::Revoked),
                (Code::Banned, Event::Banned),
            ];
            if let Some((_, event)) = over.into_iter().find(|(code, _)| error.is(*code)) {
                *self.lock() = None;
                if owns_file && let Err(disk) = self.forget().await {
                    tracing::warn!(code = disk.code(), "could not remove the ended session's file");
                }
                (self.0.on_event)(event(error.clone()));
            }
        }
        outcome
    }

    /// The player of an earlier run, with no access token yet.
    fn go_on_offline(&self, kept: StoredSession) -> Account {
        let now = self.0.clock.now();
        let account = Account {
            player_id: kept.player_id,
            display_name: kept.display_name,
            created: false,
            offline: true,
        };
        *self.lock() = Some(Active {
            account: account.clone(),
            access_token: String::new().into(),
            refresh_token: kept.refresh_token.into(),
            refresh_at: now,
            expires_at: now,
        });
        self.refresh_ahead(now);
        (self.0.on_event)(Event::LoggedIn(account.clone()));
        account
    }

    async fn begin(&self, granted: Granted) -> Result<Account, ClientError> {
        // A login counts whatever another process does; only the order of their writes is at stake.
        let _locked: Option<ProfileLock> = self.lock_profile().await.ok();
        let account = self.adopt(granted, true).await?;
        (self.0.on_event)(Event::LoggedIn(account.clone()));
        Ok(account)
    }

    /// Goes on with what the backend granted. The caller holds the profile; `owns_file`: whether to replace what is on disk.
    async fn adopt(&self, granted: Granted, owns_file: bool) -> Result<Account, ClientError> {
        check_grant(&granted)?;
        let kept = StoredSession {
            player_id: granted.player_id.clone(),
            display_name: granted.display_name.clone(),
            refresh_token: granted.refresh_token.clone(),
        };
        if owns_file {
            self.keep(&kept).await?;
        }
        let life = Duration::from_secs(granted.expires_in.into());
        let now = self.0.clock.now();
        let account = Account {
            player_id: granted.player_id,
            display_name: granted.display_name,
            created: granted.created,
            offline: false,
        };
        let refresh_at = now + life.mul_f64(0.8);
        *self.lock() = Some(Active {
            account: account.clone(),
            access_token: granted.access_token.into(),
            refresh_token: granted.refresh_token.into(),
            refresh_at,
            expires_at: now + life,
        });
        self.refresh_ahead(refresh_at);
        Ok(account)
    }

    /// Waits for 80 % of the token's life and renews it, so that no call has to wait for that.
    fn refresh_ahead(&self, refresh_at: Instant) {
        let weak = Arc::downgrade(&self.0);
        let clock = Arc::clone(&self.0.clock);
        tokio::spawn(async move {
            clock.sleep(refresh_at.saturating_duration_since(clock.now())).await;
            for attempt in 0.. {
                let Some(session) = weak.upgrade().map(Session) else { return };
                let Ok(active) = session.active() else { return };
                // Somebody renewed it meanwhile, and that renewal has its own watch.
                if active.refresh_at != refresh_at {
                    return;
                }
                match session.refresh_from(&active.access_token).await {
                    Err(error) if error.is_unanswered() => {
                        let pause = retry::pause(error.retry_after, attempt + 4);
                        drop(session);
                        clock.sleep(pause).await;
                    }
                    _ => return,
                }
            }
        });
    }

    async fn own_device_id(&self) -> Result<String, ClientError> {
        // Two processes that start for the first time have one id.
        let _locked = self.lock_profile().await?;
        let name = format!("{}.{}.device", self.0.profile, self.0.backend.name());
        let bytes = self
            .on_disk(move |storage| {
                if let Some(bytes) = storage.read(&name)? {
                    return Ok(bytes);
                }
                let made = Uuid::new_v4().simple().to_string().into_bytes();
                storage.write(&name, &made)?;
                Ok(made)
            })
            .await?;
        String::from_utf8(bytes)
            .map_err(|_| ClientError::new(Fault::Storage, "the kept device id is damaged"))
    }

    fn active(&self) -> Result<Active, ClientError> {
        self.lock().clone().ok_or_else(|| ClientError::new(Fault::NotLoggedIn, "no player is logged in"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Active>> {
        self.0.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a newer access token may help. Of a ban the refresh token's answer has the last word, and ends the session.
fn is_stale_token(error: &ClientError) -> bool {
    error.is(Code::TokenExpired) || error.is(Code::TokenInvalid) || error.is(Code::Banned)
}

/// Refuses a grant that could not be used: its tokens go into headers and back into requests.
fn check_grant(granted: &Granted) -> Result<(), ClientError> {
    let usable =
        |token: &str| limits::token("token", token).is_ok() && token.bytes().all(|b| b.is_ascii_graphic());
    if usable(&granted.access_token) && usable(&granted.refresh_token) && !granted.player_id.is_empty() {
        return Ok(());
    }
    Err(ClientError::new(Fault::BadReply, "the backend's reply is not understood: its tokens are not usable"))
}
