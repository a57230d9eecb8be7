//! What a player does with an account: other ways to log in, password, e-mail address, leaving everywhere.

use std::sync::Arc;

use backend_protocol::accounts::{
    AccountDetails, ChangePassword, CustomLogin, ForgottenPassword, LinkCustom, LinkDevice, LinkPassword,
    ResetPassword, VerifyEmail,
};
use backend_protocol::session::Logout;
use secrecy::ExposeSecret;

use super::{Account, Event, Session};
use crate::api::backend::accounts::AccountBackend;
use crate::error::{ClientError, Fault};

impl Session {
    /// Logs in with a token of another platform, which the backend has verified. Makes an account on first use.
    pub async fn login_custom(
        &self,
        provider: String,
        token: String,
        display_name: Option<String>,
    ) -> Result<Account, ClientError> {
        let _flight = self.0.flight.lock().await;
        let granted = self.accounts()?.login_custom(&CustomLogin { provider, token, display_name }).await?;
        self.begin(granted).await
    }

    /// Ends all sessions of the account, on all machines. Unlike [`Self::logout`] it fails when the backend does not answer,
    /// and then nothing has ended.
    pub async fn logout_everywhere(&self) -> Result<(), ClientError> {
        let _flight = self.0.flight.lock().await;
        let active = self.active()?;
        let _locked = self.lock_profile().await?;
        let newest = self.newest(&active).await;
        self.accounts()?.logout_everywhere(&Logout { refresh_token: newest.expose() }).await?;
        *self.lock() = None;
        if newest.owns_file {
            self.forget().await?;
        }
        (self.0.on_event)(Event::LoggedOut);
        Ok(())
    }

    /// Has a code for [`Self::reset_password`] mailed, if there is such an account; the answer is the same if there is not.
    pub async fn forgotten_password(&self, email: String) -> Result<(), ClientError> {
        self.accounts()?.password_forgotten(&ForgottenPassword { email }).await
    }

    /// Sets another password with the code from the mail. All sessions of the account end; log in afterwards.
    pub async fn reset_password(
        &self,
        email: String,
        code: String,
        new_password: String,
    ) -> Result<(), ClientError> {
        self.accounts()?.reset_password(&ResetPassword { email, code, new_password }).await
    }

    /// The account, and the ways to log in to it.
    pub async fn details(&self) -> Result<AccountDetails, ClientError> {
        self.with_account(|accounts, token| async move { accounts.account(&token).await }).await
    }

    /// Adds e-mail address and password to the account, which keeps its id and progress.
    pub async fn link_password(
        &self,
        email: String,
        password: String,
    ) -> Result<AccountDetails, ClientError> {
        let body = LinkPassword { email, password };
        self.with_account(|accounts, token| {
            let body = body.clone();
            async move { accounts.link_password(&token, &body).await }
        })
        .await
    }

    /// Lets this device log in to the account: with its own id, made and kept on first use, when `device_id` is `None`.
    pub async fn link_device(&self, device_id: Option<String>) -> Result<AccountDetails, ClientError> {
        let device_id = match device_id {
            Some(id) => id,
            None => self.own_device_id().await?,
        };
        let body = LinkDevice { device_id };
        self.with_account(|accounts, token| {
            let body = body.clone();
            async move { accounts.link_device(&token, &body).await }
        })
        .await
    }

    /// Lets an identity of another platform log in to the account.
    pub async fn link_custom(&self, provider: String, token: String) -> Result<AccountDetails, ClientError> {
        let body = LinkCustom { provider, token };
        self.with_account(|accounts, token| {
            let body = body.clone();
            async move { accounts.link_custom(&token, &body).await }
        })
        .await
    }

    /// Changes the password. This session goes on, all others of the account end.
    pub async fn change_password(&self, current: String, new: String) -> Result<(), ClientError> {
        // No renewal in between, here or in another process: the backend is told the newest refresh token.
        let flight = self.0.flight.lock().await;
        let locked = self.lock_profile().await?;
        let active = self.active()?;
        let body = ChangePassword {
            current_password: current,
            new_password: new,
            refresh_token: Some(self.newest(&active).await.expose()),
        };
        let accounts = self.accounts()?;
        let outcome = accounts.change_password(active.access_token.expose_secret(), &body).await;
        drop((flight, locked));
        match outcome {
            Err(error) if super::is_stale_token(&error) => {
                self.refresh_from(&active.access_token).await?;
                let active = self.active()?;
                let refresh_token = Some(active.refresh_token.expose_secret().to_owned());
                let body = ChangePassword { refresh_token, ..body };
                accounts.change_password(active.access_token.expose_secret(), &body).await?;
                self.refresh_from(&active.access_token).await
            }
            Err(error) => Err(error),
            // The access token is from before the change, and no longer good.
            Ok(()) => self.refresh_from(&active.access_token).await,
        }
    }

    /// Has another code mailed to the account's address.
    pub async fn send_email_code(&self) -> Result<(), ClientError> {
        self.with_account(|accounts, token| async move { accounts.send_email_code(&token).await }).await
    }

    /// Proves with the code from the mail that the address is the player's.
    pub async fn verify_email(&self, code: String) -> Result<AccountDetails, ClientError> {
        let body = VerifyEmail { code };
        self.with_account(|accounts, token| {
            let body = body.clone();
            async move { accounts.verify_email(&token, &body).await }
        })
        .await
    }

    fn accounts(&self) -> Result<Arc<dyn AccountBackend>, ClientError> {
        Arc::clone(&self.0.backend)
            .accounts()
            .ok_or_else(|| ClientError::new(Fault::NotConfigured, "this backend has no accounts of its own"))
    }

    async fn with_account<T, F>(
        &self,
        call: impl Fn(Arc<dyn AccountBackend>, String) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let accounts = self.accounts()?;
        self.authorized(|token| call(Arc::clone(&accounts), token)).await
    }
}
