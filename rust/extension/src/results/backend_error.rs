//! `BackendError`: the reason why a call failed.

use std::borrow::Cow;
use std::time::Duration;

use crate::results::doc_url::doc_url;
use crate::runtime::recent_errors;
use crate::variant_json::gstring;
use backend_client::error::{ClientError, Fault};
use godot::prelude::*;

/// A failure on its way to a script: a client error, or one that only exists between peers.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub code: Cow<'static, str>,
    pub message: Cow<'static, str>,
    pub http_status: u16,
    pub retryable: bool,
    pub retry_after: Duration,
    pub request_id: String,
    pub field: String,
}

impl Failure {
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            http_status: 0,
            retryable: false,
            retry_after: Duration::ZERO,
            request_id: String::new(),
            field: String::new(),
        }
    }

    /// The error for the game.
    pub fn into_object(self) -> Gd<BackendError> {
        recent_errors::note(&self.code, &self.message);
        Gd::from_object(BackendError::from(self))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self {
            code: error.code().into(),
            http_status: error.http_status.unwrap_or(0),
            retryable: error.retryable,
            retry_after: error.retry_after.unwrap_or_default(),
            request_id: error.request_id.unwrap_or_default(),
            field: error.field.unwrap_or_default(),
            message: error.message,
        }
    }
}

/// An error about missing configuration; the message names the remedy.
pub fn not_configured(message: impl Into<Cow<'static, str>>) -> ClientError {
    ClientError::new(Fault::NotConfigured, message)
}

/// The reason why a call failed.
///
/// Every failed result has one in its [code]error[/code] property. Use [member code] and [member retryable] in scripts, and show
/// [member message] to the player.
#[derive(GodotClass)]
#[class(no_init)]
pub struct BackendError {
    failure: Failure,
    /// Stable identifier of the error, for example [code]invalid_credentials[/code], [code]room_full[/code], [code]network[/code],
    /// [code]timeout[/code] or [code]cancelled[/code].
    #[var(get = get_code, no_set)]
    code: PhantomVar<GString>,
    /// Description of the error in one sentence. Never contains a token, key or password.
    #[var(get = get_message, no_set)]
    message: PhantomVar<GString>,
    /// HTTP status of the response, or 0 if there was none.
    #[var(get = get_http_status, no_set)]
    http_status: PhantomVar<i64>,
    /// If [code]true[/code], the same call may succeed later.
    #[var(get = get_retryable, no_set)]
    retryable: PhantomVar<bool>,
    /// Seconds to wait before the next attempt, as requested by the backend. 0 if the backend did not request any.
    #[var(get = get_retry_after_seconds, no_set)]
    retry_after_seconds: PhantomVar<f64>,
    /// Id of the request in the backend's log. Empty if the request did not reach the backend.
    #[var(get = get_request_id, no_set)]
    request_id: PhantomVar<GString>,
    /// Link to the explanation of [member code], with its cause and what to do: on the page
    /// [code]addons/backend_client/docs/errors.md[/code], or in the guide at [code]backend_client/documentation/base_url[/code] of
    /// the project settings. [method OS.shell_open] opens it.
    #[var(get = get_doc_url, no_set)]
    doc_url: PhantomVar<GString>,
    /// Name of the invalid field if [member code] is [code]invalid_field[/code], otherwise empty.
    #[var(get = get_field, no_set)]
    field: PhantomVar<GString>,
}

#[godot_api]
impl BackendError {
    #[func]
    fn get_code(&self) -> GString {
        gstring(&*self.failure.code)
    }

    #[func]
    fn get_message(&self) -> GString {
        gstring(&*self.failure.message)
    }

    #[func]
    fn get_http_status(&self) -> i64 {
        self.failure.http_status.into()
    }

    #[func]
    fn get_retryable(&self) -> bool {
        self.failure.retryable
    }

    #[func]
    fn get_retry_after_seconds(&self) -> f64 {
        self.failure.retry_after.as_secs_f64()
    }

    #[func]
    fn get_request_id(&self) -> GString {
        gstring(&self.failure.request_id)
    }

    #[func]
    fn get_doc_url(&self) -> GString {
        gstring(doc_url(&self.failure.code))
    }

    #[func]
    fn get_field(&self) -> GString {
        gstring(&self.failure.field)
    }
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            code: PhantomVar::default(),
            message: PhantomVar::default(),
            http_status: PhantomVar::default(),
            retryable: PhantomVar::default(),
            retry_after_seconds: PhantomVar::default(),
            request_id: PhantomVar::default(),
            doc_url: PhantomVar::default(),
            field: PhantomVar::default(),
        }
    }
}

#[godot_api]
impl IRefCounted for BackendError {
    fn to_string(&self) -> GString {
        gstring(format!("{}: {}", self.failure.code, self.failure.message))
    }
}
