//! The task that reads changes of rooms while anybody follows.

use std::time::Duration;

use backend_protocol::rooms::{EVENT_HEARTBEAT_SECONDS, Room};
use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;

use super::event_text::Position;
use super::notifications::Notifications;
use super::room_index::RoomIndex;
use crate::http::ApiResult;
use crate::rooms::changes::{self, Change};
use crate::rooms::{recorded_columns, room};
use crate::state::AppState;

/// Shortest time between two readings: changes that come meanwhile share one.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// Longest time between two readings: changes may be made behind this process's back.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Rooms read by one statement.
const BATCH: usize = 1_000;
/// Rooms are kept this long after the last follower.
const LINGER: Duration = Duration::from_secs(60);
/// Leases and seats that ended are looked for this often, and for no more than a fiftieth of the time.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
const EXPIRY_SHARE: u32 = 50;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(EVENT_HEARTBEAT_SECONDS);

/// Runs until the followers are closed.
pub async fn run(state: AppState) {
    let mut notifications = Notifications::new(&state);
    while !state.rooms.followers.is_closed() {
        if !state.rooms.followers.is_followed() {
            state.rooms.followers.woken().await;
            continue;
        }
        if let Err(error) = load(&state).await {
            tracing::warn!(error = error.0.detail, "the rooms could not be read for followers; trying again");
            tokio::time::sleep(MAX_INTERVAL).await;
            continue;
        }
        read_while_followed(&state, &mut notifications).await;
        notifications.disconnect();
    }
}

async fn read_while_followed(state: &AppState, notifications: &mut Notifications) {
    let followers = &state.rooms.followers;
    let now = Instant::now();
    let (mut heartbeat_at, mut expiry_at, mut followed_at) =
        (now + HEARTBEAT_INTERVAL, now + EXPIRY_INTERVAL, now);
    while !followers.is_closed() {
        let begun = Instant::now();
        notifications.connect();
        if begun >= expiry_at {
            if let Err(error) = changes::record_expired(&state.database).await {
                tracing::warn!(%error, "rooms that have expired were not recorded; trying again");
            }
            expiry_at = Instant::now() + EXPIRY_INTERVAL.max(begun.elapsed() * EXPIRY_SHARE);
        }
        let began_reading = Instant::now();
        if let Err(error) = read(state).await {
            tracing::warn!(error = error.0.detail, "changes of rooms could not be read; trying again");
        }
        if Instant::now() >= heartbeat_at {
            heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
            if let Some(index) = &mut *followers.index() {
                index.heartbeat();
            }
        }
        if followers.is_followed() {
            followed_at = Instant::now();
        } else if followed_at.elapsed() > LINGER && followers.forget_if_unfollowed() {
            return;
        }
        // Half of the time at most.
        tokio::time::sleep(MIN_INTERVAL.max(began_reading.elapsed())).await;
        tokio::select! {
            () = followers.woken() => {}
            () = notifications.received() => {}
            () = tokio::time::sleep(MAX_INTERVAL) => {}
        }
    }
}

async fn read_position(state: &AppState) -> ApiResult<Position> {
    let number = changes::position(&state.database).await?;
    Ok(Position { number, seconds: state.database.now().await? / 1000 })
}

/// Reads all rooms.
async fn load(state: &AppState) -> ApiResult<()> {
    // Leases that have ended while nobody followed are changes as well.
    while changes::record_expired(&state.database).await? {}
    Reading::of_all(state).await?.finish(state).await
}

/// Reads what has changed, and sends it to the followers.
async fn read(state: &AppState) -> ApiResult<()> {
    match Reading::of_changes(state).await? {
        Some(reading) => reading.finish(state).await,
        None => Ok(()),
    }
}

/// A reading that has begun: it is known which rooms have changed, but not yet how.
struct Reading {
    number: u64,
    position: Position,
    changed: Vec<Change>,
    /// Of all rooms, rather than of those that have changed since the one before.
    is_whole: bool,
}

impl Reading {
    async fn of_all(state: &AppState) -> ApiResult<Self> {
        let number = state.rooms.followers.begin_reading();
        let position = read_position(state).await?;
        let changed = changes::since(state, i64::MIN).await?;
        Ok(Self { number, position, changed, is_whole: true })
    }

    /// None while the rooms are not read.
    async fn of_changes(state: &AppState) -> ApiResult<Option<Self>> {
        let followers = &state.rooms.followers;
        let Some(from) = followers.index().as_ref().map(|index| index.position().number) else {
            return Ok(None);
        };
        let number = followers.begin_reading();
        // Before the changes: what is committed in between is read again next time.
        let position = read_position(state).await?;
        let mut changed = changes::since(state, from).await?;
        if let Some(index) = &*followers.index() {
            changed.retain(|change| !index.has_read(change));
        }
        Ok(Some(Self { number, position, changed, is_whole: false }))
    }

    /// Reads the rooms, and sends the followers what concerns them.
    async fn finish(self, state: &AppState) -> ApiResult<()> {
        let Self { number, position, changed, is_whole } = self;
        let rooms = read_rooms(state, changed).await?;
        let followers = &state.rooms.followers;
        {
            let mut index = followers.index();
            if followers.is_closed() {
                return Ok(());
            }
            if is_whole {
                let mut whole = RoomIndex::new(state.database.backend_id().into(), position.clone());
                whole.apply(rooms, position)?;
                *index = Some(whole);
            } else if let Some(index) = &mut *index {
                index.apply(rooms, position)?;
            }
        }
        followers.publish_reading(number);
        Ok(())
    }
}

/// The rooms as they are now, each with its last change; none where one is not on the list of all.
///
/// A statement reads both, of the rooms only what is recorded: a room is never newer than the number that it is known by. If it was,
/// a follower that knows all below a higher number would not be sent it, now or when its last change is read.
async fn read_rooms(state: &AppState, changes: Vec<Change>) -> ApiResult<Vec<(Change, Option<Room>)>> {
    let database = &state.database;
    let sql = format!(
        "SELECT room_id, change, {} FROM room_changes LEFT JOIN servers ON server_id = room_id AND {} WHERE room_id {}",
        recorded_columns(),
        changes::listed(database),
        database.is_in("$1"),
    );
    let mut rooms = Vec::with_capacity(changes.len());
    for batch in changes.chunks(BATCH) {
        let ids: Vec<&str> = batch.iter().map(|change| change.room_id.as_str()).collect();
        let rows = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(serde_json::to_string(&ids).map_err(anyhow::Error::from)?)
            .fetch_all(database.pool())
            .await?;
        for row in &rows {
            let change = Change { room_id: row.try_get("room_id")?, number: row.try_get("change")? };
            let is_listed = row.try_get::<Option<String>, _>("server_id")?.is_some();
            rooms.push((change, is_listed.then(|| room(row)).transpose()?));
        }
    }
    Ok(rooms)
}

#[cfg(test)]
mod tests;
