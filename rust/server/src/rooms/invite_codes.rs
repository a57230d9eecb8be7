//! Invite codes of rooms that are not listed.

use anyhow::Context;
use backend_protocol::Code;
use backend_protocol::rooms::{INVITE_ALPHABET, INVITE_LENGTH, RoomVisibility, normal_invite_code};
use sqlx::{AssertSqlSafe, Row};

use super::{attempt_limits, live_rooms, of_scope};
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// Codes tried until one is free. Of 729 million, a million may be taken, and nine in a row are not within a lifetime.
const MAX_ATTEMPTS: usize = 9;
/// Bytes below this are spread evenly over the alphabet.
const EVEN: u8 = 240;

/// The code that a room is to have from now on: `current` while it is good, none for a public room.
pub async fn update(
    tx: &mut Transaction,
    server_id: &str,
    visibility: RoomVisibility,
    current: Option<String>,
    renew: bool,
) -> ApiResult<Option<String>> {
    match (visibility, current) {
        (RoomVisibility::Public, None) => Ok(None),
        (RoomVisibility::Public, Some(_)) => {
            remove(tx, server_id).await?;
            Ok(None)
        }
        (_, Some(code)) if !renew => Ok(Some(code)),
        _ => assign(tx, server_id).await.map(Some),
    }
}

/// From now on the code is nobody's.
pub async fn remove(tx: &mut Transaction, server_id: &str) -> ApiResult<()> {
    sqlx::query("UPDATE servers SET invite_code = NULL WHERE server_id = $1 AND invite_code IS NOT NULL")
        .bind(server_id)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Gives a room a code that no other has.
async fn assign(tx: &mut Transaction, server_id: &str) -> ApiResult<String> {
    for _attempt in 0..MAX_ATTEMPTS {
        let code = random()?;
        let assigned = sqlx::query(
            "UPDATE servers SET invite_code = $1 WHERE server_id = $2 \
             AND NOT EXISTS (SELECT 1 FROM servers WHERE invite_code = $1)",
        )
        .bind(&code)
        .bind(server_id)
        .execute(&mut *tx.conn)
        .await?;
        if assigned.rows_affected() > 0 {
            return Ok(code);
        }
    }
    Err(anyhow::anyhow!("no invite code is free").into())
}

/// Six letters, each as likely as any other.
fn random() -> anyhow::Result<String> {
    let mut code = String::with_capacity(INVITE_LENGTH + 1);
    let mut bytes = [0_u8; INVITE_LENGTH * 2];
    while code.len() < INVITE_LENGTH {
        aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
        let even = bytes.iter().filter(|byte| **byte < EVEN);
        let letters =
            even.map(|byte| char::from(INVITE_ALPHABET[usize::from(*byte) % INVITE_ALPHABET.len()]));
        code.extend(letters.take(INVITE_LENGTH - code.len()));
    }
    code.insert(INVITE_LENGTH / 2, '-');
    Ok(code)
}

/// The id of the live room with the code that a player typed.
pub async fn room_id(state: &AppState, player_id: &str, typed: &str) -> ApiResult<String> {
    let code = normal_invite_code("invite_code", typed)?;
    let guess = attempt_limits::guess_invite_code(&state.rate_limits, player_id)?;
    let database = &state.database;
    let sql = format!(
        "SELECT server_id FROM servers WHERE invite_code = $1 AND {} AND {}",
        live_rooms(database),
        of_scope(database, "$2", "$3"),
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(&code)
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .fetch_optional(database.pool())
        .await;
    match row {
        Ok(Some(row)) => {
            guess.give_back();
            Ok(row.try_get("server_id")?)
        }
        Ok(None) => Err(unknown()),
        Err(error) => {
            guess.give_back();
            Err(error.into())
        }
    }
}

pub fn unknown() -> ApiError {
    ApiError::new(Code::InviteCodeUnknown, "no room has this invite code (any more)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_their_normal_form_and_use_every_letter() {
        let codes: Vec<String> = (0..2_000).map(|_| random().expect("random")).collect();
        for code in &codes {
            assert_eq!(normal_invite_code("invite_code", code).as_ref(), Ok(code));
        }
        let all = codes.concat();
        for letter in INVITE_ALPHABET {
            let count = all.bytes().filter(|byte| byte == letter).count();
            // 400 of each are expected; one in some 10¹⁵ runs is outside of these bounds.
            assert!((240..560).contains(&count), "{}: {count}", char::from(*letter));
        }
    }
}
