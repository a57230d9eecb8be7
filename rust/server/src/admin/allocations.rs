//! What the backend starts on demand, for the operator's tools: how far each server is, why it ended, and what it printed last.

use axum::Json;
use axum::extract::{Path, State};
use backend_protocol::admin::{AdminAllocation, AdminAllocationLog, AdminAllocations};
use backend_protocol::rooms::RoomOptions;
use backend_protocol::{Code, Problem, limits};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::auth::extractors::AdminAuth;
use crate::database::rfc3339;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// Allocations that are returned.
const MAX_ALLOCATIONS: u32 = 200;
/// How long one that has ended is shown.
const ENDED_MS: i64 = 3_600_000;

/// Returns the servers that were started on demand lately.
#[utoipa::path(get, path = "/v1/admin/allocations", operation_id = "admin_allocations", tag = "admin", security(("admin_key" = [])),
    responses((status = 200, body = AdminAllocations), (status = "4XX", body = Problem)))]
pub async fn list(State(state): State<AppState>, _admin: AdminAuth) -> ApiResult<Json<AdminAllocations>> {
    let sql = format!(
        "SELECT allocation_id, status, reason, spare, creator, room, server_id, host, created_at, ended_at FROM allocations \
         WHERE scope = $1 AND (ended_at IS NULL OR ended_at > {} - $2) \
         ORDER BY created_at DESC, allocation_id DESC LIMIT {MAX_ALLOCATIONS}",
        state.database.clock()
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(state.config.scope())
        .bind(ENDED_MS)
        .fetch_all(state.database.pool())
        .await?;
    let allocator = state.allocation.allocator();
    let host = allocator.as_ref().map(|allocator| allocator.host());
    let allocations = rows.iter().map(|row| allocation(row, host)).collect::<sqlx::Result<_>>()?;
    Ok(Json(AdminAllocations { is_enabled: state.allocation.settings().is_some(), allocations }))
}

fn allocation(row: &AnyRow, host: Option<&str>) -> sqlx::Result<AdminAllocation> {
    let optional = |column: &str| row.try_get::<Option<String>, _>(column);
    // A replica of a newer version may have stored one that this one cannot read.
    let room: RoomOptions = serde_json::from_str(&row.try_get::<String, _>("room")?).unwrap_or_default();
    let started_by = optional("host")?;
    Ok(AdminAllocation {
        allocation_id: row.try_get("allocation_id")?,
        status: row.try_get("status")?,
        reason: row.try_get("reason")?,
        is_spare: row.try_get::<i64, _>("spare")? != 0,
        creator: optional("creator")?,
        name: room.name,
        server_id: optional("server_id")?,
        created_at: rfc3339(row.try_get("created_at")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(rfc3339),
        is_here: host.is_some() && started_by.as_deref() == host,
    })
}

/// Returns what the server of an allocation has printed last, from the replica that has started it.
#[utoipa::path(get, path = "/v1/admin/allocations/{allocation_id}/log", operation_id = "admin_allocation_log", tag = "admin",
    params(("allocation_id" = String, Path)), security(("admin_key" = [])),
    responses((status = 200, body = AdminAllocationLog), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn log(
    State(state): State<AppState>,
    _admin: AdminAuth,
    Path(allocation_id): Path<String>,
) -> ApiResult<Json<AdminAllocationLog>> {
    limits::identifier("allocation_id", &allocation_id, 64)?;
    let unknown =
        || ApiError::new(Code::NotFound, "this replica has started no server for such an allocation");
    let allocator = state.allocation.allocator().ok_or_else(unknown)?;
    // Its id is also the name of a folder: only one that is stored is looked for.
    sqlx::query("SELECT 1 FROM allocations WHERE allocation_id = $1 AND scope = $2 AND host = $3")
        .bind(&allocation_id)
        .bind(state.config.scope())
        .bind(allocator.host())
        .fetch_optional(state.database.pool())
        .await?
        .ok_or_else(unknown)?;
    Ok(Json(AdminAllocationLog { lines: allocator.last_lines(&allocation_id).await }))
}
