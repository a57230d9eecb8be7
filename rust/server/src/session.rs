//! Accounts and sessions.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backend_protocol::session::{
    AnonymousLogin, DeviceLogin, Logout, PasswordLogin, Refresh, Register, Session,
};
use backend_protocol::{Code, Problem};
use sqlx::Row;
use uuid::Uuid;

use crate::audit::Event;
use crate::database::Work;
use crate::familiar_addresses;
use crate::idempotency::{self, IdempotencyKey};
use crate::problem::{JsonBody, Outcome, Refusal};
use crate::rate_limit::{self, PasswordAttempt};
use crate::state::AppState;
use crate::tokens::{new_refresh_token, sha256};

/// Time within which the last used refresh token may be replayed: its reply may have been lost.
const REPLAY_MS: i64 = 60_000;

struct Account {
    player_id: String,
    display_name: String,
    created: bool,
}

/// Makes a guest account and logs it in.
#[utoipa::path(post, path = "/v1/auth/anonymous", tag = "session", request_body = AnonymousLogin,
    responses((status = 200, body = Session), (status = 4XX, body = Problem)))]
pub async fn login_anonymous(
    State(state): State<AppState>,
    key: IdempotencyKey,
    body: JsonBody<AnonymousLogin>,
) -> Outcome<Json<Session>> {
    let mut work = state.database.begin().await?;
    let account = match idempotency::recorded(&mut work, &key, &body.hash).await? {
        Some(player_id) => known(&mut work, &player_id).await?,
        None => {
            let account = create(&state, &mut work, body.value.display_name, None, None, None).await?;
            idempotency::record(&mut work, &key, &body.hash, &account.player_id).await?;
            account
        }
    };
    begin(&state, work, account, "anonymous").await
}

/// Logs in the account bound to a device, making it on first use.
#[utoipa::path(post, path = "/v1/auth/device", tag = "session", request_body = DeviceLogin,
    responses((status = 200, body = Session), (status = 4XX, body = Problem)))]
pub async fn login_device(
    State(state): State<AppState>,
    _key: IdempotencyKey,
    body: JsonBody<DeviceLogin>,
) -> Outcome<Json<Session>> {
    let device_hash = sha256(body.value.device_id.as_bytes());
    let mut work = state.database.begin().await?;
    let row = sqlx::query("SELECT player_id FROM players WHERE device_hash = $1")
        .bind(&device_hash)
        .fetch_optional(&mut *work.tx)
        .await?;
    let account = match row {
        Some(row) => known(&mut work, &row.try_get::<String, _>("player_id")?).await?,
        None => create(&state, &mut work, body.value.display_name, None, None, Some(device_hash)).await?,
    };
    begin(&state, work, account, "device").await
}

/// Logs in with e-mail address and password.
#[utoipa::path(post, path = "/v1/auth/password", tag = "session", request_body = PasswordLogin,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = 4XX, body = Problem)))]
pub async fn login_password(
    State(state): State<AppState>,
    body: JsonBody<PasswordLogin>,
) -> Outcome<Json<Session>> {
    let email = body.value.email.to_lowercase();
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
    let familiar = familiar_addresses::is_one(&state.database, &player_id).await?;
    let attempt = PasswordAttempt::begin(&state.rate_limits, &sha256(email.as_bytes()), familiar)?;
    match state.passwords.matches(body.value.password, stored).await {
        Ok(true) => attempt.was_right(),
        Ok(false) => {
            Event::new("login").method("password").player(&player_id).refused("wrong password");
            return Err(Refusal::new(
                Code::InvalidCredentials,
                "the e-mail address or the password is wrong",
            ));
        }
        Err(refusal) => {
            attempt.was_none();
            return Err(refusal);
        }
    }
    let mut work = state.database.begin().await?;
    let account = known(&mut work, &player_id).await?;
    familiar_addresses::note(&mut work, &player_id).await?;
    begin(&state, work, account, "password").await
}

/// Makes an account with e-mail address and password, and logs it in.
#[utoipa::path(post, path = "/v1/auth/register", tag = "session", request_body = Register,
    responses((status = 201, body = Session), (status = 409, body = Problem), (status = 4XX, body = Problem)))]
pub async fn register(
    State(state): State<AppState>,
    key: IdempotencyKey,
    body: JsonBody<Register>,
) -> Outcome<(StatusCode, Json<Session>)> {
    let Register { email, password, display_name } = body.value;
    // Before the transaction: hashing takes long, and SQLite has one writer.
    let password_hash = state.passwords.hash(password).await?;
    let mut work = state.database.begin().await?;
    let account = match idempotency::recorded(&mut work, &key, &body.hash).await? {
        Some(player_id) => known(&mut work, &player_id).await?,
        None => {
            let email = email.to_lowercase();
            let account =
                create(&state, &mut work, Some(display_name), Some(email), Some(password_hash), None).await?;
            familiar_addresses::note(&mut work, &account.player_id).await?;
            idempotency::record(&mut work, &key, &body.hash, &account.player_id).await?;
            account
        }
    };
    Ok((StatusCode::CREATED, begin(&state, work, account, "register").await?))
}

/// Trades a refresh token for a new session.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "session", request_body = Refresh,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = 4XX, body = Problem)))]
pub async fn refresh(State(state): State<AppState>, body: JsonBody<Refresh>) -> Outcome<Json<Session>> {
    let invalid = || Refusal::new(Code::RefreshTokenInvalid, "the session is over; log in again");
    let offered = body.value.refresh_token;
    let mut work = state.database.begin().await?;
    let select = "SELECT r.session_id, r.expires_at, r.used_at, s.player_id, s.revoked_at FROM refresh_tokens r \
                  JOIN sessions s ON s.session_id = r.session_id WHERE r.token_hash = $1";
    let select = sqlx::AssertSqlSafe(format!("{select}{}", state.database.for_update()));
    let row = sqlx::query(select).bind(sha256(offered.as_bytes())).fetch_optional(&mut *work.tx).await?;
    let row = row.ok_or_else(invalid)?;
    let session_id: String = row.try_get("session_id")?;
    let used_at: Option<i64> = row.try_get("used_at")?;
    let revoked = row.try_get::<Option<i64>, _>("revoked_at")?.is_some();
    if revoked || row.try_get::<i64, _>("expires_at")? <= work.now {
        return Err(invalid());
    }
    let player_id: String = row.try_get("player_id")?;
    let successor = state.tokens.successor(&offered);
    match used_at {
        None => {
            sqlx::query("UPDATE refresh_tokens SET used_at = $1 WHERE token_hash = $2")
                .bind(work.now)
                .bind(sha256(offered.as_bytes()))
                .execute(&mut *work.tx)
                .await?;
            store_refresh_token(&state, &mut work, &session_id, &successor).await?;
        }
        // The reply was lost: the same successor, as long as nobody has used that one.
        Some(at) if work.now - at <= REPLAY_MS && !is_used(&mut work, &successor).await? => {}
        Some(_) => {
            sqlx::query("UPDATE sessions SET revoked_at = $1 WHERE session_id = $2")
                .bind(work.now)
                .bind(&session_id)
                .execute(&mut *work.tx)
                .await?;
            work.commit().await?;
            Event::new("refresh")
                .player(&player_id)
                .detail("the session was revoked")
                .refused("an old token came back");
            return Err(Refusal::new(
                Code::RefreshTokenReused,
                "the session was ended for safety; log in again",
            ));
        }
    }
    let account = known(&mut work, &player_id).await?;
    let session = grant(&state, account, successor, work.now)?;
    work.commit().await?;
    Ok(Json(session))
}

/// Ends a session. Says nothing about whether there was one.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "session", request_body = Logout,
    responses((status = 204), (status = 4XX, body = Problem)))]
pub async fn logout(State(state): State<AppState>, body: JsonBody<Logout>) -> Outcome<StatusCode> {
    let mut work = state.database.begin().await?;
    sqlx::query(
        "UPDATE sessions SET revoked_at = $1 WHERE revoked_at IS NULL AND session_id IN \
         (SELECT session_id FROM refresh_tokens WHERE token_hash = $2)",
    )
    .bind(work.now)
    .bind(sha256(body.value.refresh_token.as_bytes()))
    .execute(&mut *work.tx)
    .await?;
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn is_used(work: &mut Work, refresh_token: &str) -> Outcome<bool> {
    let row = sqlx::query("SELECT used_at FROM refresh_tokens WHERE token_hash = $1")
        .bind(sha256(refresh_token.as_bytes()))
        .fetch_optional(&mut *work.tx)
        .await?;
    Ok(match row {
        Some(row) => row.try_get::<Option<i64>, _>("used_at")?.is_some(),
        None => true,
    })
}

async fn known(work: &mut Work, player_id: &str) -> Outcome<Account> {
    let row = sqlx::query("SELECT display_name, banned_at FROM players WHERE player_id = $1")
        .bind(player_id)
        .fetch_optional(&mut *work.tx)
        .await?;
    let row = row.ok_or_else(|| Refusal::new(Code::PlayerNotFound, "the account is gone"))?;
    if row.try_get::<Option<i64>, _>("banned_at")?.is_some() {
        Event::new("login").player(player_id).refused("banned");
        return Err(Refusal::new(Code::Banned, "this account may not log in"));
    }
    Ok(Account {
        player_id: player_id.to_owned(),
        display_name: row.try_get("display_name")?,
        created: false,
    })
}

async fn create(
    state: &AppState,
    work: &mut Work,
    display_name: Option<String>,
    email: Option<String>,
    password_hash: Option<String>,
    device_hash: Option<String>,
) -> Outcome<Account> {
    rate_limit::new_account(state)?;
    let player_id = Uuid::now_v7().to_string();
    let display_name = display_name.unwrap_or_else(|| format!("Guest-{}", &player_id[player_id.len() - 6..]));
    let made = sqlx::query(
        "INSERT INTO players (player_id, display_name, email, password_hash, device_hash, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&player_id)
    .bind(&display_name)
    .bind(email)
    .bind(password_hash)
    .bind(device_hash)
    .bind(work.now)
    .execute(&mut *work.tx)
    .await;
    match made {
        Ok(_) => Ok(Account { player_id, display_name, created: true }),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            let mut problem =
                Problem::new(Code::AccountExists, "there is an account with this e-mail address");
            problem.field = Some("email".into());
            Err(problem.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// A new session of `account`, committed with whatever `work` did before.
async fn begin(
    state: &AppState,
    mut work: Work,
    account: Account,
    method: &'static str,
) -> Outcome<Json<Session>> {
    let session_id = Uuid::now_v7().to_string();
    sqlx::query("INSERT INTO sessions (session_id, player_id, created_at) VALUES ($1, $2, $3)")
        .bind(&session_id)
        .bind(&account.player_id)
        .bind(work.now)
        .execute(&mut *work.tx)
        .await?;
    let refresh_token = new_refresh_token()?;
    store_refresh_token(state, &mut work, &session_id, &refresh_token).await?;
    let session = grant(state, account, refresh_token, work.now)?;
    work.commit().await?;
    Event::new(if session.created { "account_created" } else { "login" })
        .method(method)
        .player(&session.player_id)
        .ok();
    Ok(Json(session))
}

async fn store_refresh_token(
    state: &AppState,
    work: &mut Work,
    session_id: &str,
    token: &str,
) -> Outcome<()> {
    let expires_at = work.now + i64::from(state.config.refresh_token_seconds) * 1000;
    sqlx::query("INSERT INTO refresh_tokens (token_hash, session_id, expires_at) VALUES ($1, $2, $3)")
        .bind(sha256(token.as_bytes()))
        .bind(session_id)
        .bind(expires_at)
        .execute(&mut *work.tx)
        .await?;
    Ok(())
}

fn grant(state: &AppState, account: Account, refresh_token: String, now: i64) -> Outcome<Session> {
    let lives = state.config.access_token_seconds;
    Ok(Session {
        access_token: state.tokens.sign(&account.player_id, &account.display_name, None, lives, now)?,
        player_id: account.player_id,
        display_name: account.display_name,
        expires_in: lives,
        refresh_token,
        refresh_expires_in: state.config.refresh_token_seconds,
        created: account.created,
    })
}
