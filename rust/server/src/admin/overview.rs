//! What happens on the backend, for the operator's tools.

use axum::Json;
use axum::extract::State;
use backend_protocol::Problem;
use backend_protocol::admin::{AdminOverview, AdminQueue, AdminServer, AdminVersion};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::auth::extractors::AdminAuth;
use crate::database::{rfc3339, unsigned};
use crate::http::ApiResult;
use crate::rooms;
use crate::state::AppState;

/// Servers that are returned.
const MAX_SERVERS: u32 = 500;
/// How long a server that was lost is shown.
const LOST_MS: i64 = 3_600_000;

/// Returns the live servers, the queues of the matchmakers, and numbers.
#[utoipa::path(get, path = "/v1/admin/overview", operation_id = "admin_overview", tag = "admin", security(("admin_key" = [])),
    responses((status = 200, body = AdminOverview), (status = "4XX", body = Problem)))]
pub async fn overview(State(state): State<AppState>, _admin: AdminAuth) -> ApiResult<Json<AdminOverview>> {
    let now = state.database.now().await?;
    let mut connection = state.database.pool().acquire().await?;
    let servers = servers(&state, &mut connection, now).await?;
    let versions = versions(&state, &mut connection, now).await?;
    let queues = queues(&state, &mut connection, now).await?;
    Ok(Json(AdminOverview {
        backend_version: env!("CARGO_PKG_VERSION").to_owned(),
        scope: state.config.scope(),
        now: rfc3339(now),
        accounts: count(&mut connection, "SELECT COUNT(*) AS number FROM players").await?,
        players: versions.iter().map(|version| version.players).sum(),
        live_servers: versions.iter().map(|version| version.servers).sum(),
        heartbeat_seconds: state.config.heartbeat_seconds,
        conflicts: count(
            &mut connection,
            "SELECT COUNT(*) AS number FROM save_conflicts WHERE resolved_at IS NULL",
        )
        .await?,
        servers,
        versions,
        queues,
    }))
}

async fn count(connection: &mut AnyConnection, statement: &'static str) -> sqlx::Result<u32> {
    unsigned(&sqlx::query(statement).fetch_one(connection).await?, "number")
}

async fn servers(
    state: &AppState,
    connection: &mut AnyConnection,
    now: i64,
) -> sqlx::Result<Vec<AdminServer>> {
    let sql = format!(
        "SELECT server_id, name, address, port, region, map, mode, version, status, visibility, players, max_players, \
         lease_until, drain_requested_at, {} AS reserved FROM servers WHERE lease_until > $3 AND {} \
         ORDER BY CASE WHEN lease_until > $4 THEN 0 ELSE 1 END, players DESC, name, server_id LIMIT {MAX_SERVERS}",
        rooms::seats::reserved(&state.database),
        rooms::of_scope(&state.database, "$1", "$2"),
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .bind(now - LOST_MS)
        .bind(now)
        .fetch_all(connection)
        .await?;
    let lease_ms = i64::from(state.config.lease_seconds) * 1_000;
    let server = |row: &sqlx::any::AnyRow| {
        let lease_until: i64 = row.try_get("lease_until")?;
        let port: i64 = row.try_get("port")?;
        let drain_requested_at: Option<i64> = row.try_get("drain_requested_at")?;
        let age_ms = (now - (lease_until - lease_ms)).max(0);
        Ok(AdminServer {
            server_id: row.try_get("server_id")?,
            name: row.try_get("name")?,
            address: format!("{}:{port}", row.try_get::<String, _>("address")?),
            region: row.try_get("region")?,
            map: row.try_get("map")?,
            mode: row.try_get("mode")?,
            version: row.try_get("version")?,
            status: if lease_until > now { row.try_get("status")? } else { "lost".to_owned() },
            visibility: row.try_get("visibility")?,
            players: unsigned(row, "players")?,
            reserved: unsigned(row, "reserved")?,
            max_players: unsigned(row, "max_players")?,
            heartbeat_age_seconds: u32::try_from(age_ms / 1_000).unwrap_or(u32::MAX),
            drain_requested: drain_requested_at.is_some(),
        })
    };
    rows.iter().map(server).collect()
}

async fn versions(
    state: &AppState,
    connection: &mut AnyConnection,
    now: i64,
) -> sqlx::Result<Vec<AdminVersion>> {
    let sql = format!(
        "SELECT version, COUNT(*) AS servers, CAST(SUM(players) AS BIGINT) AS players FROM servers \
         WHERE lease_until > $3 AND {} GROUP BY version ORDER BY version",
        rooms::of_scope(&state.database, "$1", "$2"),
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .bind(now)
        .fetch_all(connection)
        .await?;
    let version = |row: &sqlx::any::AnyRow| {
        Ok(AdminVersion {
            version: row.try_get("version")?,
            servers: unsigned(row, "servers")?,
            players: unsigned(row, "players")?,
        })
    };
    rows.iter().map(version).collect()
}

async fn queues(state: &AppState, connection: &mut AnyConnection, now: i64) -> sqlx::Result<Vec<AdminQueue>> {
    let rows = sqlx::query(
        "SELECT matchmaker, status, COUNT(*) AS tickets, MIN(created_at) AS oldest FROM matchmaking_tickets \
         WHERE scope = $1 AND ended_at IS NULL GROUP BY matchmaker, status",
    )
    .bind(state.config.scope())
    .fetch_all(connection)
    .await?;
    let mut queues: Vec<AdminQueue> = state
        .matchmaking
        .matchmakers
        .iter()
        .map(|matchmaker| AdminQueue {
            matchmaker: matchmaker.name.clone(),
            queued: 0,
            searching: 0,
            requires_acceptance: 0,
            placing: 0,
            oldest_seconds: 0,
        })
        .collect();
    for row in &rows {
        let matchmaker: String = row.try_get("matchmaker")?;
        let Some(queue) = queues.iter_mut().find(|queue| queue.matchmaker == matchmaker) else { continue };
        let tickets = unsigned(row, "tickets")?;
        match row.try_get::<String, _>("status")?.as_str() {
            "queued" => queue.queued = tickets,
            "searching" => queue.searching = tickets,
            "requires_acceptance" => queue.requires_acceptance = tickets,
            "placing" => queue.placing = tickets,
            _ => {}
        }
        let age_ms = now - row.try_get::<i64, _>("oldest")?;
        let age_seconds = u32::try_from(age_ms.max(0) / 1_000).unwrap_or(u32::MAX);
        queue.oldest_seconds = queue.oldest_seconds.max(age_seconds);
    }
    Ok(queues)
}
