//! Batches of saves: each applied once, under the epoch it was made in, or kept as a conflict.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use backend_protocol::limits::MAX_SEQUENCE_STEP;
use backend_protocol::player_store::{SaveDocuments, SaveItem, SaveOutcome, SaveResult, SavedDocuments};
use backend_protocol::{Code, MAX_SAVE_BODY_BYTES, Problem};
use sqlx::{AssertSqlSafe, Row};

use super::leases::EpochStatus;
use super::{Sender, conflicts, leases};
use crate::auth::extractors::ServerAuth;
use crate::database::Transaction;
use crate::http::{ApiResult, JsonBody};
use crate::state::AppState;

/// The leases under which a save is applied, and the epochs of a document that it replaces.
const RULE: (&str, &str) = if cfg!(feature = "failpoint-no-epoch-check") {
    // Failpoint: the control that the fault-injection tests must catch.
    ("l.player_id = s.player_id", "documents.epoch <> excluded.epoch")
} else {
    (
        "l.player_id = s.player_id AND l.epoch = s.epoch AND (l.key_hash = $2 OR l.key_hash IS NULL)",
        "documents.epoch < excluded.epoch",
    )
};

/// Saves a batch, each item for itself.
#[utoipa::path(post, path = "/v1/players/save", operation_id = "players_save", tag = "player store", request_body = SaveDocuments, security(("server_key" = [])),
    responses((status = 200, body = SavedDocuments), (status = "4XX", body = Problem)))]
pub async fn save(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<SaveDocuments, MAX_SAVE_BODY_BYTES>,
) -> ApiResult<Json<SavedDocuments>> {
    let SaveDocuments { server_id, items } = body.value;
    let mut tx = state.database.begin().await?;
    leases::require_own_server(&mut tx, &server, &server_id).await?;
    let mut players: Vec<&str> = items.iter().map(|item| item.player_id.as_str()).collect();
    players.sort_unstable();
    players.dedup();
    let held = leases::lock(&state, &mut tx, &server_id, &players).await?;
    let until = leases::lease_until(&state, &tx);
    leases::renew(&mut tx, &held, until).await?;
    // One order for all batches, so that two of them cannot wait for each other's rows.
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&index| {
        let SaveItem { player_id, key, epoch, sequence, .. } = &items[index];
        (player_id, key, epoch, sequence)
    });
    let values = items.iter().map(|item| serde_json::to_string(&item.value));
    let values = values.collect::<Result<Vec<String>, _>>().map_err(anyhow::Error::from)?;
    let mut results: Vec<Option<SaveResult>> = vec![None; items.len()];
    for ((item, value), result) in items.iter().zip(&values).zip(&mut results) {
        *result = unchanged(&state, &mut tx, &server.key_hash, item, value).await?;
    }
    order.retain(|&index| results[index].is_none());
    for some in batches(&order, &items) {
        apply(&mut tx, &server.key_hash, &items, &values, some, &mut results).await?;
        limit_documents(&state, &mut tx, &items, some, &mut results).await?;
        for &index in some {
            if results[index].is_none() {
                let max_conflicts = conflicts::max_conflicts(&state.config);
                let sender = Sender { key_hash: &server.key_hash, server_id: &server_id, max_conflicts };
                let classified = classify(&state, &mut tx, &sender, &items[index], &values[index]);
                results[index] = Some(classified.await?);
            }
        }
    }
    let wanted = leases::handover_requested(&mut *tx.conn, &server_id, tx.now).await?;
    tx.commit().await?;
    let results: Vec<SaveResult> = results.into_iter().flatten().collect();
    let count = |outcome| results.iter().filter(|result| result.outcome == outcome).count() as u64;
    metrics::counter!("backend_documents_saved_total").increment(count(SaveOutcome::Applied));
    metrics::counter!("backend_saves_refused_total").increment(count(SaveOutcome::Refused));
    Ok(Json(SavedDocuments { results, wanted }))
}

/// Items that one statement may take: as many as one of [`BATCH_SIZES`], and none of a document that another one is of.
fn batches<'a>(order: &'a [usize], items: &[SaveItem]) -> Vec<&'a [usize]> {
    let of = |index: &usize| (&items[*index].player_id, &items[*index].key);
    let mut parts = Vec::new();
    for unique in order.chunk_by(|one, next| of(one) != of(next)) {
        let mut rest = unique;
        for size in BATCH_SIZES {
            while rest.len() >= size {
                let (part, after) = rest.split_at(size);
                parts.push(part);
                rest = after;
            }
        }
    }
    parts
}

/// How many items a statement takes: few numbers, so that each of the statements stays prepared.
const BATCH_SIZES: [usize; 4] = [100, 25, 5, 1];

/// Applies those whose epoch is current and whose sequence is new, in one statement. Which server of the line of keys that
/// holds the player sends them does not matter: an epoch is given to one holder only, and what that one could not deliver
/// before it died, its successor delivers.
async fn apply(
    tx: &mut Transaction,
    key_hash: &str,
    items: &[SaveItem],
    values: &[String],
    part: &[usize],
    results: &mut [Option<SaveResult>],
) -> ApiResult<()> {
    let now = tx.now;
    let mut query = sqlx::query(AssertSqlSafe(statement(part.len()))).bind(now).bind(key_hash);
    for &index in part {
        let item = &items[index];
        query = query
            .bind(&item.player_id)
            .bind(&item.key)
            .bind(&values[index])
            .bind(item.epoch)
            .bind(item.sequence);
    }
    let rows = query.fetch_all(&mut *tx.conn).await?;
    let mut applied = HashMap::with_capacity(rows.len());
    for row in &rows {
        let of: (String, String) = (row.try_get("player_id")?, row.try_get("document_key")?);
        applied.insert(of, row);
    }
    for &index in part {
        let item = &items[index];
        let Some(row) = applied.get(&(item.player_id.clone(), item.key.clone())) else { continue };
        let version = row.try_get("version")?;
        let former_epoch: i64 = row.try_get("former_epoch")?;
        if former_epoch > 0 {
            record_former_epoch(tx, item, former_epoch, row.try_get("former_sequence")?, version - 1).await?;
        }
        results[index] = Some(result(item, SaveOutcome::Applied, version));
    }
    Ok(())
}

/// Takes back what was created in `part` beyond the number of documents that a player may have. Only where something was created
/// is anything counted: most saves change documents that exist.
async fn limit_documents(
    state: &AppState,
    tx: &mut Transaction,
    items: &[SaveItem],
    part: &[usize],
    results: &mut [Option<SaveResult>],
) -> ApiResult<()> {
    let most = i64::from(state.config.max_documents_per_player);
    let is_new = |index: &usize| {
        let result = results[*index].as_ref();
        result.is_some_and(|result| result.outcome == SaveOutcome::Applied && result.version == 1)
    };
    let created: Vec<usize> = part.iter().copied().filter(is_new).collect();
    if most == 0 || created.is_empty() {
        return Ok(());
    }
    // A batch is in the order of its players.
    for of_player in created.chunk_by(|one, next| items[*one].player_id == items[*next].player_id) {
        let player_id = &items[of_player[0]].player_id;
        let count: i64 = sqlx::query("SELECT COUNT(*) FROM documents WHERE player_id = $1")
            .bind(player_id)
            .fetch_one(&mut *tx.conn)
            .await?
            .try_get(0)?;
        let excess = usize::try_from(count - most).unwrap_or(0);
        for &index in of_player.iter().rev().take(excess) {
            let item = &items[index];
            sqlx::query("DELETE FROM documents WHERE player_id = $1 AND document_key = $2")
                .bind(player_id)
                .bind(&item.key)
                .execute(&mut *tx.conn)
                .await?;
            tracing::warn!(
                player_id,
                key = item.key,
                most,
                "a save was refused: the player has too many documents"
            );
            results[index] = Some(refused(item, Code::TooManyDocuments));
        }
    }
    Ok(())
}

/// What becomes of an item that its server has only loaded, if the database has that version or a later one.
async fn unchanged(
    state: &AppState,
    tx: &mut Transaction,
    key_hash: &str,
    item: &SaveItem,
    value: &str,
) -> ApiResult<Option<SaveResult>> {
    let Some(loaded) = item.loaded_version else { return Ok(None) };
    let status = leases::epoch_status(state, tx, key_hash, &item.player_id, item.epoch).await?;
    if matches!(status, EpochStatus::NoPlayer | EpochStatus::Foreign) {
        return Ok(None);
    }
    let row = sqlx::query(
        "SELECT version, value FROM documents WHERE player_id = $1 AND document_key = $2 AND version >= $3",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(loaded)
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let version = row.try_get::<i64, _>("version")?;
    // Under a lease that the database has lost, the version may have come again with another content.
    let is_another =
        status == EpochStatus::Unrecorded && version == loaded && row.try_get::<String, _>("value")? != value;
    Ok((!is_another).then(|| result(item, SaveOutcome::Replayed, version)))
}

fn result(item: &SaveItem, outcome: SaveOutcome, version: i64) -> SaveResult {
    SaveResult { player_id: item.player_id.clone(), key: item.key.clone(), outcome, version, code: None }
}

fn refused(item: &SaveItem, code: Code) -> SaveResult {
    SaveResult { code: Some(code), ..result(item, SaveOutcome::Refused, 0) }
}

fn statement(count: usize) -> &'static str {
    static ALL: LazyLock<[String; BATCH_SIZES.len()]> = LazyLock::new(|| BATCH_SIZES.map(build_statement));
    BATCH_SIZES.iter().zip(&*ALL).find(|(size, _)| **size == count).map_or("", |(_, sql)| sql)
}

fn build_statement(count: usize) -> String {
    let (current, older) = RULE;
    let row = |number: usize| {
        let first = 3 + number * 5;
        let [player, key, value, epoch, sequence] = [0, 1, 2, 3, 4].map(|column| first + column);
        // PostgreSQL takes the types of all rows from the first.
        format!(
            "(CAST(${player} AS TEXT), CAST(${key} AS TEXT), CAST(${value} AS TEXT), CAST(${epoch} AS BIGINT), \
             CAST(${sequence} AS BIGINT))"
        )
    };
    let rows: Vec<String> = (0..count).map(row).collect();
    format!(
        "WITH saves (player_id, document_key, value, epoch, sequence) AS (VALUES {}) \
         INSERT INTO documents (player_id, document_key, version, value, epoch, sequence, updated_at) \
         SELECT s.player_id, s.document_key, 1, s.value, s.epoch, s.sequence, CAST($1 AS BIGINT) \
         FROM saves s CROSS JOIN player_leases l WHERE {current} AND s.sequence <= {MAX_SEQUENCE_STEP} \
         + COALESCE((SELECT d.sequence FROM documents d WHERE d.player_id = s.player_id \
         AND d.document_key = s.document_key AND d.epoch = s.epoch), 0) \
         ON CONFLICT (player_id, document_key) DO UPDATE SET version = documents.version + 1, \
         former_epoch = CASE WHEN documents.epoch = excluded.epoch THEN 0 ELSE documents.epoch END, \
         former_sequence = CASE WHEN documents.epoch = excluded.epoch THEN 0 ELSE documents.sequence END, \
         value = excluded.value, epoch = excluded.epoch, sequence = excluded.sequence, \
         updated_at = excluded.updated_at \
         WHERE {older} OR (documents.epoch = excluded.epoch AND documents.sequence < excluded.sequence) \
         RETURNING player_id, document_key, version, former_epoch, former_sequence",
        rows.join(", ")
    )
}

/// What became of an item that was not applied.
async fn classify(
    state: &AppState,
    tx: &mut Transaction,
    sender: &Sender<'_>,
    item: &SaveItem,
    value: &str,
) -> ApiResult<SaveResult> {
    let SaveItem { player_id, key, epoch, sequence, .. } = item;
    let status = leases::epoch_status(state, tx, sender.key_hash, player_id, *epoch).await?;
    let refuse = |code: Code| {
        let (server_id, code_text) = (sender.server_id, code.as_str());
        tracing::warn!(player_id, key, epoch, sequence, server_id, code = code_text, "a save was refused");
        Ok(refused(item, code))
    };
    match status {
        EpochStatus::NoPlayer => return refuse(Code::PlayerNotFound),
        EpochStatus::Foreign => return refuse(Code::EpochUnknown),
        EpochStatus::Current | EpochStatus::Former | EpochStatus::Unbound | EpochStatus::Unrecorded => {}
    }
    let stored = sqlx::query(
        "SELECT version, value, epoch, sequence FROM documents WHERE player_id = $1 AND document_key = $2",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .fetch_optional(&mut *tx.conn)
    .await?;
    let mut version = 0;
    let mut last_of_epoch = 0;
    if let Some(stored) = stored {
        version = stored.try_get("version")?;
        let last: i64 = stored.try_get("sequence")?;
        if stored.try_get::<i64, _>("epoch")? == item.epoch {
            if item.sequence <= last {
                let same = item.sequence == last && stored.try_get::<String, _>("value")? == value;
                let outcome = if same { SaveOutcome::Replayed } else { SaveOutcome::Superseded };
                return Ok(result(item, outcome, version));
            }
            last_of_epoch = last;
        }
    }
    if let Some((last, then)) = former_progress(tx, item).await? {
        if item.sequence <= last {
            // Committed before the player changed hands, and the reply lost: no conflict.
            let outcome = if item.sequence == last { SaveOutcome::Replayed } else { SaveOutcome::Superseded };
            return Ok(result(item, outcome, then));
        }
        last_of_epoch = last_of_epoch.max(last);
    }
    if item.sequence - last_of_epoch > MAX_SEQUENCE_STEP {
        return refuse(Code::SequenceOutOfBounds);
    }
    let is_unrecorded = status == EpochStatus::Unrecorded;
    let is_unproven = is_unrecorded || status == EpochStatus::Unbound;
    match conflicts::store(tx, sender, item, value, is_unproven).await? {
        Ok(outcome) => {
            let code = is_unrecorded.then_some(Code::RolledBack);
            Ok(SaveResult { code, ..result(item, outcome, version) })
        }
        Err(code) => refuse(code),
    }
}

/// Notes how far a document's former epoch had come.
async fn record_former_epoch(
    tx: &mut Transaction,
    item: &SaveItem,
    epoch: i64,
    sequence: i64,
    version: i64,
) -> ApiResult<()> {
    sqlx::query(
        "INSERT INTO former_epochs (player_id, document_key, epoch, sequence, version, ended_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(epoch)
    .bind(sequence)
    .bind(version)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Last sequence and version of the document in the item's epoch, if that is a former one.
async fn former_progress(tx: &mut Transaction, item: &SaveItem) -> ApiResult<Option<(i64, i64)>> {
    let row = sqlx::query(
        "SELECT sequence, version FROM former_epochs WHERE player_id = $1 AND document_key = $2 AND epoch = $3",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(item.epoch)
    .fetch_optional(&mut *tx.conn)
    .await?;
    Ok(row
        .map(|row| Ok::<_, sqlx::Error>((row.try_get("sequence")?, row.try_get("version")?)))
        .transpose()?)
}
