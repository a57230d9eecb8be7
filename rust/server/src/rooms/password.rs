//! The password of a room: hashed as players' passwords are, and checked here alone.

use backend_protocol::Code;
use backend_protocol::rooms::RoomPassword;

use super::attempt_limits;
use super::loaders::LiveRoom;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// What is stored of a password: a hash, or nothing if it is empty.
pub async fn stored(state: &AppState, password: &RoomPassword) -> ApiResult<Option<String>> {
    if password.is_empty() {
        return Ok(None);
    }
    state.passwords.hash(password.0.clone()).await.map(Some)
}

/// Whether a player who shows `password` may join.
pub async fn check(
    state: &AppState,
    live: &LiveRoom,
    player_id: &str,
    password: &RoomPassword,
) -> ApiResult<()> {
    let Some(stored) = &live.password_hash else { return Ok(()) };
    if password.is_empty() {
        return Err(ApiError::new(Code::WrongRoomPassword, "the room has a password, and none was sent"));
    }
    let guess = attempt_limits::guess_password(&state.rate_limits, &live.room.room_id, player_id)?;
    match state.passwords.matches(password.0.clone(), Some(stored.clone())).await {
        Ok(Some(_)) => {
            guess.give_back();
            Ok(())
        }
        Ok(None) => Err(ApiError::new(Code::WrongRoomPassword, "this is not the room's password")),
        Err(error) => {
            guess.give_back();
            Err(error)
        }
    }
}
