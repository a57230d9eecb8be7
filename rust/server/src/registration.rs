//! The registry of game servers.

pub mod key_revocation;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_protocol::registration::{Heartbeat, HeartbeatReply, RegisterServer, ServerLease};
use backend_protocol::{Code, Problem, limits, unicode};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::allocation;
use crate::allocation::registration::RegisteringAllocation;
use crate::auth::audit::Event;
use crate::auth::extractors::ServerAuth;
use crate::auth::revocations;
use crate::auth::signing_keys;
use crate::database::{Database, Transaction};
use crate::http::idempotency::IdempotencyKey;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::player_store::{conflicts, leases};
use crate::rooms::columns::{folded, list_players, status_text, tags_text, visibility_of, visibility_text};
use crate::rooms::{attributes as room_attributes, changes, invite_codes, password, seats};
use crate::state::AppState;
use crate::world_store;

/// Folds the names that an earlier build has written.
pub async fn fold_names(database: &Database) -> sqlx::Result<()> {
    let rows = sqlx::query("SELECT server_id, name FROM servers WHERE name_folded = ''")
        .fetch_all(database.pool())
        .await?;
    for row in rows {
        sqlx::query("UPDATE servers SET name_folded = $1 WHERE server_id = $2")
            .bind(folded(&row.try_get::<String, _>("name")?))
            .bind(row.try_get::<String, _>("server_id")?)
            .execute(database.pool())
            .await?;
    }
    Ok(())
}

/// Registers a server, or renews its registration under the same instance id.
#[utoipa::path(post, path = "/v1/servers", operation_id = "servers_register", tag = "registration", request_body = RegisterServer, security(("server_key" = [])),
    responses((status = 201, body = ServerLease), (status = "4XX", body = Problem)))]
pub async fn register(
    State(state): State<AppState>,
    server: ServerAuth,
    key: IdempotencyKey,
    body: JsonBody<RegisterServer>,
) -> ApiResult<(StatusCode, Json<ServerLease>)> {
    let lease = enter(&state, &server.key_hash, key.0.as_deref(), body.value).await?;
    Ok((StatusCode::CREATED, Json(lease)))
}

/// Enters a server into the list, or renews its entry.
pub async fn enter(
    state: &AppState,
    key_hash: &str,
    registered_with: Option<&str>,
    mut entry: RegisterServer,
) -> ApiResult<ServerLease> {
    let own_password_hash = password::stored(state, &entry.password).await?;
    let mut tx = state.database.begin().await?;
    let allocation = allocation::registration::begin(state, &mut tx, key_hash, &mut entry).await?;
    let password_hash =
        own_password_hash.or_else(|| allocation.as_ref().and_then(RegisteringAllocation::password_hash));
    let tags = tags_text(&entry.tags)?;
    let attributes = serde_json::to_string(&entry.attributes).map_err(anyhow::Error::from)?;
    let lease_until = leases::lease_until(state, &tx);
    let row = sqlx::query(
        "INSERT INTO servers (server_id, key_hash, instance_id, name, address, port, map, mode, region, version, \
         tags, players, max_players, status, heartbeat_sequence, created_at, lease_until, certificate, registered_with, \
         name_folded, visibility, password_hash, attributes, query_port, assigned_room, relay) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'ready', 0, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $25) \
         ON CONFLICT (key_hash, instance_id) DO UPDATE SET name = excluded.name, name_folded = excluded.name_folded, address = excluded.address, \
         port = excluded.port, query_port = excluded.query_port, map = excluded.map, mode = excluded.mode, region = excluded.region, \
         version = excluded.version, tags = excluded.tags, players = excluded.players, \
         max_players = excluded.max_players, status = excluded.status, certificate = excluded.certificate, \
         lease_until = CASE WHEN servers.lease_until = 0 AND servers.registered_with = excluded.registered_with \
         THEN 0 ELSE excluded.lease_until END, registered_with = excluded.registered_with, \
         visibility = excluded.visibility, \
         password_hash = CASE WHEN $24 = 1 THEN COALESCE(excluded.password_hash, servers.password_hash) ELSE excluded.password_hash END, \
         attributes = excluded.attributes, assigned_room = excluded.assigned_room, relay = excluded.relay, \
         drain_requested_at = NULL RETURNING server_id, invite_code",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(key_hash)
    .bind(&entry.instance_id)
    .bind(unicode::composed(&entry.name).into_owned())
    .bind(&entry.address)
    .bind(i64::from(entry.port))
    .bind(&entry.map)
    .bind(&entry.mode)
    .bind(&entry.region)
    .bind(&entry.version)
    .bind(tags)
    .bind(i64::from(entry.players))
    .bind(i64::from(entry.max_players))
    .bind(tx.now)
    .bind(lease_until)
    .bind(&entry.certificate)
    // A repetition of the registration that arrives after the server has left lists it no more.
    .bind(registered_with)
    .bind(folded(&entry.name))
    .bind(visibility_text(entry.visibility))
    .bind(password_hash)
    .bind(attributes)
    .bind(entry.query_port.map(i64::from))
    .bind(allocation.as_ref().and_then(|allocation| allocation.assigned_room.clone()))
    // The server does not know the password that its room was created with.
    .bind(i64::from(allocation.is_some()))
    .bind(i64::from(entry.relay))
    .fetch_one(&mut *tx.conn)
    .await?;
    let server_id: String = row.try_get("server_id")?;
    let invite_code = row.try_get("invite_code")?;
    let invite_code = invite_codes::update(&mut tx, &server_id, entry.visibility, invite_code, false).await?;
    list_players(&mut tx, &server_id, i64::from(entry.players)).await?;
    room_attributes::store(&mut tx, &server_id, &entry.attributes).await?;
    // A server that was forgotten and comes back still holds the players that no other has taken.
    leases::renew_all(state, &mut tx, &server_id).await?;
    world_store::renew_all(&mut tx, &server_id, lease_until).await?;
    let changed = match &allocation {
        Some(allocation) => allocation.complete(state, &mut tx, &server_id).await?,
        None => vec![server_id.clone()],
    };
    changes::record(&state.database, &mut tx, &changed).await?;
    tx.commit().await?;
    if let Some(allocation) = &allocation {
        allocation.notify(state);
    }
    state.rooms.rooms_changed();
    Event::new("server_registered").server(&server_id).ok();
    tracing::debug!(server_id, name = entry.name, "a server registered");
    Ok(ServerLease {
        server_id,
        lease_seconds: state.config.lease_seconds,
        heartbeat_seconds: state.config.heartbeat_seconds,
        backend_id: Some(state.database.backend_id().to_owned()),
        invite_code,
        room: allocation.and_then(|allocation| allocation.room),
    })
}

/// What a heartbeat says of its server, as it is stored.
struct ReportedEntry<'a> {
    beat: &'a Heartbeat,
    sequence: i64,
    confirmed: i64,
    tags: Option<String>,
    attributes: Option<String>,
    password_hash: Option<String>,
}

impl<'a> ReportedEntry<'a> {
    async fn of(state: &AppState, beat: &'a Heartbeat, confirmed: i64) -> ApiResult<Self> {
        let sequence =
            i64::try_from(beat.sequence).map_err(|_| ApiError::field("sequence", "must fit into 63 bits"))?;
        let attributes = beat.attributes.as_ref().map(serde_json::to_string).transpose();
        let password_hash = match &beat.password {
            Some(password) => password::stored(state, password).await?,
            None => None,
        };
        Ok(Self {
            beat,
            sequence,
            confirmed,
            tags: beat.tags.as_deref().map(tags_text).transpose()?,
            attributes: attributes.map_err(anyhow::Error::from)?,
            password_hash,
        })
    }

    /// None: the heartbeat was overtaken, or the server is not listed.
    async fn store(
        self,
        tx: &mut Transaction,
        server_id: &str,
        key_hash: &str,
        lease_until: i64,
    ) -> sqlx::Result<Option<AnyRow>> {
        let beat = self.beat;
        // Until the server has taken its room over, the room is listed as it was requested.
        sqlx::query(AssertSqlSafe(
            "UPDATE servers SET lease_until = $1, heartbeat_sequence = $2, status = $3, players_before = players, \
             players = $4, map = CASE WHEN KEPT THEN map ELSE COALESCE($5, map) END, \
             mode = CASE WHEN KEPT THEN mode ELSE COALESCE($6, mode) END, \
             max_players = CASE WHEN KEPT THEN max_players ELSE COALESCE($7, max_players) END, \
             tags = CASE WHEN KEPT THEN tags ELSE COALESCE($8, tags) END, \
             rolled_back_at = CASE WHEN heartbeat_sequence < $12 THEN $2 \
             WHEN rolled_back_at > $12 THEN rolled_back_at ELSE 0 END, \
             visibility = CASE WHEN KEPT THEN visibility ELSE COALESCE($13, visibility) END, \
             attributes = CASE WHEN KEPT THEN attributes ELSE COALESCE($14, attributes) END, \
             password_hash = CASE WHEN $15 = 1 AND NOT (KEPT) THEN $16 ELSE password_hash END, \
             assigned_room = CASE WHEN KEPT THEN assigned_room END, \
             heartbeat_changed = CASE WHEN status <> $3 OR players <> $4 OR (NOT (KEPT) AND (map <> COALESCE($5, map) \
             OR mode <> COALESCE($6, mode) OR max_players <> COALESCE($7, max_players) OR tags <> COALESCE($8, tags) \
             OR visibility <> COALESCE($13, visibility) OR attributes <> COALESCE($14, attributes) \
             OR ($15 = 1 AND ($16 IS NULL) <> (password_hash IS NULL)))) THEN 1 ELSE 0 END \
             WHERE server_id = $9 AND key_hash = $10 AND lease_until > $11 AND heartbeat_sequence < $2 \
             RETURNING players_before, rolled_back_at, visibility, invite_code, assigned_room, drain_requested_at, heartbeat_changed"
                .replace("KEPT", "assigned_room IS NOT NULL AND ($17 = 0 OR assigned_room = '')"),
        ))
        .bind(lease_until)
        .bind(self.sequence)
        .bind(status_text(beat.status))
        .bind(i64::from(beat.players))
        .bind(&beat.map)
        .bind(&beat.mode)
        .bind(beat.max_players.map(i64::from))
        .bind(self.tags)
        .bind(server_id)
        .bind(key_hash)
        .bind(tx.now)
        .bind(self.confirmed)
        .bind(beat.visibility.map(visibility_text))
        .bind(self.attributes)
        .bind(i64::from(beat.password.is_some()))
        .bind(self.password_hash)
        .bind(i64::from(beat.room_taken_over))
        .fetch_optional(&mut *tx.conn)
        .await
    }
}

/// Renews a server's lease, and those of its players.
#[utoipa::path(post, path = "/v1/servers/{server_id}/heartbeat", operation_id = "servers_heartbeat", tag = "registration", request_body = Heartbeat,
    security(("server_key" = [])), params(("server_id" = String, Path)),
    responses((status = 200, body = HeartbeatReply), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn heartbeat(
    State(state): State<AppState>,
    server: ServerAuth,
    Path(server_id): Path<String>,
    body: JsonBody<Heartbeat>,
) -> ApiResult<Json<HeartbeatReply>> {
    limits::identifier("server_id", &server_id, 64)?;
    renew(&state, &server.key_hash, &server_id, &body.value).await.map(Json)
}

/// Stores a heartbeat, and returns what its server has to learn.
pub async fn renew(
    state: &AppState,
    key_hash: &str,
    server_id: &str,
    beat: &Heartbeat,
) -> ApiResult<HeartbeatReply> {
    let confirmed = i64::try_from(beat.confirmed_sequence.unwrap_or(0))
        .map_err(|_| ApiError::field("confirmed_sequence", "must fit into 63 bits"))?;
    let entry = ReportedEntry::of(state, beat, confirmed).await?;
    let mut tx = state.database.begin().await?;
    let lease_until = leases::lease_until(state, &tx);
    let beaten = entry.store(&mut tx, server_id, key_hash, lease_until).await?;
    let (mut holds, mut changed) = (0, false);
    // Reported until a reply that reported it has arrived: replies get lost.
    let rolled_back_at: i64;
    let invite_code: Option<String>;
    let assigned_room: Option<String>;
    let drain_requested_at: Option<i64>;
    if let Some(row) = beaten {
        rolled_back_at = row.try_get("rolled_back_at")?;
        drain_requested_at = row.try_get("drain_requested_at")?;
        let visibility = visibility_of(&row.try_get::<String, _>("visibility")?);
        let current = row.try_get("invite_code")?;
        invite_code =
            invite_codes::update(&mut tx, server_id, visibility, current, beat.new_invite_code).await?;
        if row.try_get::<i64, _>("players_before")? != i64::from(beat.players) {
            list_players(&mut tx, server_id, i64::from(beat.players)).await?;
        }
        assigned_room = row.try_get("assigned_room")?;
        if let Some(attributes) = beat.attributes.as_ref().filter(|_| assigned_room.is_none()) {
            room_attributes::store(&mut tx, server_id, attributes).await?;
        }
        let seats_ended = seats::end(&state.database, &mut tx, server_id, &beat.used_tickets).await?;
        changed = seats_ended || row.try_get::<i64, _>("heartbeat_changed")? != 0;
        holds = leases::renew_all(state, &mut tx, server_id).await?;
        world_store::renew(&mut tx, server_id, &beat.worlds, lease_until).await?;
    } else {
        // Late and overtaken, or not listed: only the latter is told.
        let row = sqlx::query(
            "SELECT rolled_back_at, invite_code, assigned_room, drain_requested_at FROM servers WHERE server_id = $1 AND key_hash = $2 AND lease_until > $3",
        )
        .bind(server_id)
        .bind(key_hash)
        .bind(tx.now)
        .fetch_optional(&mut *tx.conn)
        .await?
        .ok_or_else(|| ApiError::new(Code::ServerUnknown, "not listed (any more); register again"))?;
        rolled_back_at = row.try_get("rolled_back_at")?;
        invite_code = row.try_get("invite_code")?;
        assigned_room = row.try_get("assigned_room")?;
        drain_requested_at = row.try_get("drain_requested_at")?;
    }
    let rolled_back = rolled_back_at > confirmed;
    let wanted = leases::handover_requested(&mut *tx.conn, server_id, tx.now).await?;
    let conflicts = conflicts::of_server(&mut *tx.conn, server_id).await?;
    let (revocations, revocations_as_of) = revocations::since(&mut tx, beat.revocations_after).await?;
    // From the database: another replica may have read a new key a moment before this one.
    let key_ids = Some(signing_keys::active_kids(&mut tx.conn, tx.now).await?);
    if changed {
        changes::record(&state.database, &mut tx, &[server_id.to_owned()]).await?;
    }
    tx.commit().await?;
    if changed {
        state.rooms.followers.rooms_changed();
    }
    if rolled_back {
        tracing::warn!(
            server_id,
            confirmed,
            "the database is older than what this server was sent, because it went back to a backup"
        );
    }
    Ok(HeartbeatReply {
        lease_seconds: state.config.lease_seconds,
        // A server that holds players has to learn soon that another server waits for one of them, and a server that admitted
        // players that one of them was banned.
        heartbeat_seconds: if assigned_room.is_some() {
            // A spare learns soon what it is.
            1
        } else if holds > 0 || beat.players > 0 {
            state.config.heartbeat_seconds.min(state.config.holder_heartbeat_seconds)
        } else {
            state.config.heartbeat_seconds
        },
        drain: drain_requested_at.is_some(),
        rolled_back,
        wanted,
        conflicts,
        revocations,
        revocations_as_of,
        key_ids,
        invite_code,
        room: assigned_room.as_deref().and_then(allocation::registration::assigned),
    })
}

/// Deregisters a server, and releases all players and worlds that it holds. What it saved under their epochs counts until
/// another server takes them.
#[utoipa::path(delete, path = "/v1/servers/{server_id}", operation_id = "servers_deregister", tag = "registration", security(("server_key" = [])),
    params(("server_id" = String, Path)), responses((status = 204), (status = "4XX", body = Problem)))]
pub async fn deregister(
    State(state): State<AppState>,
    server: ServerAuth,
    Path(server_id): Path<String>,
) -> ApiResult<StatusCode> {
    limits::identifier("server_id", &server_id, 64)?;
    remove(&state, &server.key_hash, &server_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a server off the list.
pub async fn remove(state: &AppState, key_hash: &str, server_id: &str) -> ApiResult<()> {
    let mut tx = state.database.begin().await?;
    let gone = sqlx::query("UPDATE servers SET lease_until = 0 WHERE server_id = $1 AND key_hash = $2")
        .bind(server_id)
        .bind(key_hash)
        .execute(&mut *tx.conn)
        .await?;
    if gone.rows_affected() > 0 {
        // Also what it does not know of: a lease whose reply was lost.
        leases::release_all(state, &mut tx, server_id).await?;
        world_store::release_all(&mut tx, server_id).await?;
        invite_codes::remove(&mut tx, server_id).await?;
        seats::end_all(&state.database, &mut tx, server_id).await?;
        changes::record(&state.database, &mut tx, &[server_id.to_owned()]).await?;
    }
    tx.commit().await?;
    state.rooms.rooms_changed();
    if gone.rows_affected() > 0 {
        Event::new("server_deregistered").server(server_id).ok();
    }
    Ok(())
}
