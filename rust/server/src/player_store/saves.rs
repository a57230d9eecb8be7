//! Batches of saves: each applied once, under the epoch it was made in, or kept as a conflict.

use axum::Json;
use axum::extract::State;
use backend_protocol::player_store::{SaveDocuments, SaveItem, SaveOutcome, SaveResult, SavedDocuments};
use backend_protocol::{MAX_SAVE_BODY_BYTES, Problem};
use sqlx::{AssertSqlSafe, Row};

use super::{conflicts, leases};
use crate::database::Work;
use crate::problem::{JsonBody, Outcome};
use crate::state::{AppState, ServerAuth};

/// Of whom a save is applied, and over which epochs of a document.
const RULE: (&str, &str) = if cfg!(feature = "planted-no-epoch-check") {
    // Planted: the control that the fault-injection tests must catch.
    ("l.player_id = $1", "documents.epoch <> excluded.epoch")
} else {
    ("l.player_id = $1 AND l.epoch = $4", "documents.epoch < excluded.epoch")
};

/// Saves a batch, each item for itself.
#[utoipa::path(post, path = "/v1/players/save", tag = "player store", request_body = SaveDocuments, security(("server_key" = [])),
    responses((status = 200, body = SavedDocuments), (status = "4XX", body = Problem)))]
pub async fn save(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<SaveDocuments, MAX_SAVE_BODY_BYTES>,
) -> Outcome<Json<SavedDocuments>> {
    let SaveDocuments { server_id, items } = body.value;
    let mut work = state.database.begin().await?;
    leases::own(&mut work, &server, &server_id).await?;
    let mut players: Vec<&str> = items.iter().map(|item| item.player_id.as_str()).collect();
    players.sort_unstable();
    players.dedup();
    let held = leases::lock(&state, &mut work, &server_id, &players).await?;
    let until = leases::lease_until(&state, &work);
    leases::renew(&mut work, &held, until).await?;
    // One order for all batches, so that two of them cannot wait for each other's rows.
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&index| {
        let SaveItem { player_id, key, epoch, sequence, .. } = &items[index];
        (player_id, key, epoch, sequence)
    });
    let mut results: Vec<Option<SaveResult>> = vec![None; items.len()];
    for index in order {
        results[index] = Some(save_one(&mut work, &server_id, &items[index]).await?);
    }
    let wanted = leases::wanted(&mut *work.tx, &server_id, work.now).await?;
    work.commit().await?;
    let results: Vec<SaveResult> = results.into_iter().flatten().collect();
    metrics::counter!("backend_documents_saved_total")
        .increment(results.iter().filter(|result| result.outcome == SaveOutcome::Applied).count() as u64);
    Ok(Json(SavedDocuments { results, wanted }))
}

/// Applies one item if its epoch is current and its sequence new, in one statement; otherwise finds out which it was.
/// Who sends it does not matter: an epoch is given to one holder only, and what that one could not deliver before it
/// died, its successor delivers.
async fn save_one(work: &mut Work, server_id: &str, item: &SaveItem) -> Outcome<SaveResult> {
    let value = serde_json::to_string(&item.value).map_err(anyhow::Error::from)?;
    let (current, older) = RULE;
    let applied = sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO documents (player_id, document_key, version, value, epoch, sequence, updated_at) \
         SELECT l.player_id, $2, 1, $3, $4, $5, $6 FROM player_leases l WHERE {current} \
         ON CONFLICT (player_id, document_key) DO UPDATE SET version = documents.version + 1, \
         former_epoch = CASE WHEN documents.epoch = excluded.epoch THEN 0 ELSE documents.epoch END, \
         former_sequence = CASE WHEN documents.epoch = excluded.epoch THEN 0 ELSE documents.sequence END, \
         value = excluded.value, epoch = excluded.epoch, sequence = excluded.sequence, \
         updated_at = excluded.updated_at \
         WHERE {older} OR (documents.epoch = excluded.epoch AND documents.sequence < excluded.sequence) \
         RETURNING version, former_epoch, former_sequence"
    )))
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(&value)
    .bind(item.epoch)
    .bind(item.sequence)
    .bind(work.now)
    .fetch_optional(&mut *work.tx)
    .await?;
    let result = |outcome, version| SaveResult {
        player_id: item.player_id.clone(),
        key: item.key.clone(),
        outcome,
        version,
    };
    if let Some(row) = applied {
        let version = row.try_get("version")?;
        let former_epoch: i64 = row.try_get("former_epoch")?;
        if former_epoch > 0 {
            remember(work, item, former_epoch, row.try_get("former_sequence")?, version - 1).await?;
        }
        return Ok(result(SaveOutcome::Applied, version));
    }
    let stored = sqlx::query(
        "SELECT version, value, epoch, sequence FROM documents WHERE player_id = $1 AND document_key = $2",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .fetch_optional(&mut *work.tx)
    .await?;
    let mut version = 0;
    if let Some(stored) = stored {
        version = stored.try_get("version")?;
        let last: i64 = stored.try_get("sequence")?;
        if stored.try_get::<i64, _>("epoch")? == item.epoch && item.sequence <= last {
            let same = item.sequence == last && stored.try_get::<String, _>("value")? == value;
            return Ok(result(if same { SaveOutcome::Replayed } else { SaveOutcome::Superseded }, version));
        }
    }
    if let Some((last, then)) = how_far(work, item).await?
        && item.sequence <= last
    {
        // Committed before the player changed hands, and the reply lost: no conflict.
        let same = item.sequence == last;
        return Ok(result(if same { SaveOutcome::Replayed } else { SaveOutcome::Superseded }, then));
    }
    Ok(result(conflicts::keep(work, server_id, item, &value).await?, version))
}

/// Notes how far a document's former epoch had come.
async fn remember(work: &mut Work, item: &SaveItem, epoch: i64, sequence: i64, version: i64) -> Outcome<()> {
    sqlx::query(
        "INSERT INTO former_epochs (player_id, document_key, epoch, sequence, version, ended_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(epoch)
    .bind(sequence)
    .bind(version)
    .bind(work.now)
    .execute(&mut *work.tx)
    .await?;
    Ok(())
}

/// Last sequence and version of the document in the item's epoch, if that is a former one.
async fn how_far(work: &mut Work, item: &SaveItem) -> Outcome<Option<(i64, i64)>> {
    let row = sqlx::query(
        "SELECT sequence, version FROM former_epochs WHERE player_id = $1 AND document_key = $2 AND epoch = $3",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(item.epoch)
    .fetch_optional(&mut *work.tx)
    .await?;
    Ok(row
        .map(|row| Ok::<_, sqlx::Error>((row.try_get("sequence")?, row.try_get("version")?)))
        .transpose()?)
}
