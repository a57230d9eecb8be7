//! Logins.

pub mod refresh;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backend_protocol::accounts::CustomLogin;
use backend_protocol::session::{AnonymousLogin, DeviceLogin, PasswordLogin, Register, Session};
use backend_protocol::{Code, Problem};
use sqlx::Row;
use uuid::Uuid;

use crate::accounts::mail::MailJob;
use crate::accounts::{self, NewAccount, address, link, passwords};
use crate::auth::active_account::{Account, require_active};
use crate::auth::audit::Event;
use crate::auth::password_check::check_password;
use crate::auth::password_hash::Form;
use crate::auth::tokens::{Subject, new_refresh_token};
use crate::auth::{known_login_ips, refresh_tokens};
use crate::config::EmailAccounts;
use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::idempotency::{self, IdempotencyKey, PreviousResult};
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Creates a guest account and logs it in.
#[utoipa::path(post, path = "/v1/auth/anonymous", operation_id = "auth_login_anonymous", tag = "session", request_body = AnonymousLogin,
    responses((status = 200, body = Session), (status = "4XX", body = Problem)))]
pub async fn login_anonymous(
    State(state): State<AppState>,
    key: IdempotencyKey,
    body: JsonBody<AnonymousLogin>,
) -> ApiResult<Json<Session>> {
    let request_hash = body.hash("anonymous");
    let mut tx = state.database.begin().await?;
    if let Some(repeated) = idempotency::claim(&mut tx, &key, &request_hash).await? {
        return repeat(&state, tx, &key, repeated).await;
    }
    let new = NewAccount { display_name: body.value.display_name, ..NewAccount::default() };
    let account = accounts::create(&state, &mut tx, new).await?;
    start_session_under(&state, tx, account, "anonymous", &key).await
}

/// Logs in the account linked to a device. Creates it on first use.
#[utoipa::path(post, path = "/v1/auth/device", operation_id = "auth_login_device", tag = "session", request_body = DeviceLogin,
    responses((status = 200, body = Session), (status = "4XX", body = Problem)))]
pub async fn login_device(
    State(state): State<AppState>,
    _key: IdempotencyKey,
    body: JsonBody<DeviceLogin>,
) -> ApiResult<Json<Session>> {
    let device_hash = sha256(body.value.device_id.as_bytes());
    let mut tx = state.database.begin().await?;
    let row = sqlx::query("SELECT player_id FROM players WHERE device_hash = $1")
        .bind(&device_hash)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let account = match row {
        Some(row) => require_active(&mut tx, &row.try_get::<String, _>("player_id")?).await?,
        None => {
            let display_name = body.value.display_name;
            let new = NewAccount { display_name, device_hash: Some(device_hash), ..NewAccount::default() };
            accounts::create(&state, &mut tx, new).await?
        }
    };
    start_session(&state, tx, account, "device").await
}

/// Logs in with a token of another platform (external login). Creates the account on first use.
#[utoipa::path(post, path = "/v1/auth/custom", operation_id = "auth_login_custom", tag = "session", request_body = CustomLogin,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = 503, body = Problem),
        (status = "4XX", body = Problem)))]
pub async fn login_custom(
    State(state): State<AppState>,
    _key: IdempotencyKey,
    body: JsonBody<CustomLogin>,
) -> ApiResult<Json<Session>> {
    let CustomLogin { provider, token, display_name } = body.value;
    let identity = state.identity_providers.verify(&provider, &token).await?;
    let mut tx = state.database.begin().await?;
    let account = match link::owner(&mut tx, &provider, &identity.subject).await? {
        Some(player_id) => require_active(&mut tx, &player_id).await?,
        None => {
            let display_name = display_name.or(identity.display_name);
            let new = NewAccount { display_name, ..NewAccount::default() };
            let account = accounts::create(&state, &mut tx, new).await?;
            link::add(&mut tx, &account.player_id, &provider, &identity.subject).await?;
            account
        }
    };
    start_session(&state, tx, account, "custom").await
}

/// Logs in with e-mail address and password.
#[utoipa::path(post, path = "/v1/auth/password", operation_id = "auth_login_password", tag = "session", request_body = PasswordLogin,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = "4XX", body = Problem)))]
pub async fn login_password(
    State(state): State<AppState>,
    body: JsonBody<PasswordLogin>,
) -> ApiResult<Json<Session>> {
    let email = address::normalized(&body.value.email);
    let row = sqlx::query("SELECT player_id, password_hash FROM players WHERE email = $1")
        .bind(&email)
        .fetch_optional(state.database.pool())
        .await?;
    let (player_id, stored) = match row {
        Some(row) => {
            (row.try_get::<String, _>("player_id")?, row.try_get::<Option<String>, _>("password_hash")?)
        }
        None => (String::new(), None),
    };
    let password = body.value.password;
    let form = check_password(&state, &email, &player_id, password.clone(), stored.clone()).await?;
    let renewed = match form {
        Form::Normal => None,
        // It was hashed as it was typed once; from now on it is the same however it is typed.
        Form::AsTyped => Some(state.passwords.hash(password).await?),
    };
    let mut tx = state.database.begin().await?;
    if let (Some(renewed), Some(stored)) = (renewed, stored) {
        passwords::renew(&mut tx, &player_id, &stored, &renewed).await?;
    }
    let account = require_active(&mut tx, &player_id).await?;
    known_login_ips::insert(&mut tx, &player_id).await?;
    start_session(&state, tx, account, "password").await
}

/// Creates an account with e-mail address and password, and logs it in.
#[utoipa::path(post, path = "/v1/auth/register", operation_id = "auth_register", tag = "session", request_body = Register,
    responses((status = 201, body = Session), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn register(
    State(state): State<AppState>,
    key: IdempotencyKey,
    body: JsonBody<Register>,
) -> ApiResult<(StatusCode, Json<Session>)> {
    let request_hash = body.hash("register");
    let Register { email, password, display_name } = body.value;
    // Before the transaction: hashing takes long, and SQLite has one writer.
    let password_hash = Some(state.passwords.hash(password).await?);
    let email = address::normalized(&email);
    let mut tx = state.database.begin().await?;
    if let Some(repeated) = idempotency::claim(&mut tx, &key, &request_hash).await? {
        return Ok((StatusCode::CREATED, repeat(&state, tx, &key, repeated).await?));
    }
    let mut new = NewAccount { display_name: Some(display_name), password_hash, ..NewAccount::default() };
    match state.email_accounts {
        EmailAccounts::Open => new.email = Some(email),
        EmailAccounts::Verified => new.pending_email = Some(email),
    }
    let account = accounts::create(&state, &mut tx, new).await?;
    known_login_ips::insert(&mut tx, &account.player_id).await?;
    let player_id = account.player_id.clone();
    let session = start_session_under(&state, tx, account, "register", &key).await?;
    state.mail.enqueue(MailJob::Verification { player_id });
    Ok((StatusCode::CREATED, session))
}

/// The session that the same request began before: its reply was lost.
async fn repeat(
    state: &AppState,
    mut tx: Transaction,
    key: &IdempotencyKey,
    repeated: PreviousResult,
) -> ApiResult<Json<Session>> {
    let PreviousResult { player_id, session_id } = repeated;
    let refresh_token = first_refresh_token(state, key, &session_id)?;
    if !refresh_tokens::is_unused(state, &mut tx, &refresh_token).await? {
        return Err(idempotency::key_spent());
    }
    let account = Account { created: true, ..require_active(&mut tx, &player_id).await? };
    let session = issue(state, account, &session_id, refresh_token, tx.now)?;
    tx.commit().await?;
    Ok(Json(session))
}

/// Under a key it is derived from it, so that a repetition gives the same one and none is stored.
fn first_refresh_token(state: &AppState, key: &IdempotencyKey, session_id: &str) -> anyhow::Result<String> {
    match &key.0 {
        Some(key) => Ok(state.tokens.first_refresh_token(key, session_id)),
        None => new_refresh_token(),
    }
}

/// A new session of `account`, committed with whatever `tx` did before.
async fn start_session(
    state: &AppState,
    tx: Transaction,
    account: Account,
    method: &'static str,
) -> ApiResult<Json<Session>> {
    start_session_under(state, tx, account, method, &IdempotencyKey(None)).await
}

/// The same, under a key that was claimed.
async fn start_session_under(
    state: &AppState,
    mut tx: Transaction,
    account: Account,
    method: &'static str,
    key: &IdempotencyKey,
) -> ApiResult<Json<Session>> {
    let elsewhere = sqlx::query("SELECT player_id FROM players WHERE player_id = $1 AND scope <> $2")
        .bind(&account.player_id)
        .bind(state.config.scope())
        .fetch_optional(&mut *tx.conn)
        .await?;
    if elsewhere.is_some() {
        Event::new("login").player(&account.player_id).refused("another environment's account");
        return Err(ApiError::new(
            Code::PlayerNotFound,
            "the account belongs to another game or environment",
        ));
    }
    let session_id = Uuid::now_v7().to_string();
    sqlx::query("INSERT INTO sessions (session_id, player_id, created_at) VALUES ($1, $2, $3)")
        .bind(&session_id)
        .bind(&account.player_id)
        .bind(tx.now)
        .execute(&mut *tx.conn)
        .await?;
    let refresh_token = first_refresh_token(state, key, &session_id)?;
    refresh_tokens::store(state, &mut tx, &session_id, &refresh_token).await?;
    idempotency::complete(&mut tx, key, &account.player_id, &session_id).await?;
    let session = issue(state, account, &session_id, refresh_token, tx.now)?;
    tx.commit().await?;
    Event::new(if session.created { "account_created" } else { "login" })
        .method(method)
        .player(&session.player_id)
        .ok();
    Ok(Json(session))
}

fn issue(
    state: &AppState,
    account: Account,
    session_id: &str,
    refresh_token: String,
    now: i64,
) -> ApiResult<Session> {
    let lives = state.config.access_token_seconds;
    // Tokens count their age in seconds: one that follows an end of all sessions must be younger than it.
    let now = now.max((account.tokens_before + 1) * 1000);
    let subject =
        Subject { player_id: &account.player_id, name: &account.display_name, session_id: Some(session_id) };
    Ok(Session {
        access_token: state.tokens.sign(&subject, None, lives, now)?,
        player_id: account.player_id,
        display_name: account.display_name,
        expires_in: lives,
        refresh_token,
        refresh_expires_in: state.config.refresh_token_seconds,
        created: account.created,
    })
}
