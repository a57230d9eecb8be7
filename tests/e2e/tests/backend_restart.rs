//! What the backend acknowledged, it still has after it was killed.

use anyhow::{Context, Result, ensure};
use backend_protocol::player_store::SaveOutcome;
use serde_json::{Map, json};
use test_harness::backend::Backend;

#[test]
fn acknowledged_saves_sessions_and_keys_survive_a_kill() -> Result<()> {
    let mut backend = Backend::start()?;
    let api = backend.api()?;
    let ada = api.log_in("Ada")?;
    let server = api.register_server("Pond")?;
    let taken = api.take_over(&server.server_id, ada.id())?;
    let epoch = taken.players.first().context("the player is not held")?.epoch;
    let keys = api.signing_keys()?;
    let value = |coins: i64| Map::from_iter([("coins".to_owned(), json!(coins))]);

    for sequence in 1..=5 {
        let saved = api.save(&server.server_id, ada.id(), "purse", (epoch, sequence), value(sequence))?;
        ensure!(saved.outcome == SaveOutcome::Applied && saved.version == sequence, "{saved:?}");
        backend.kill()?;
        backend.resume()?;
        let held = ada.document("purse")?.context("the acknowledged save is gone")?;
        ensure!(held.version == sequence && held.value == value(sequence), "{held:?}");
        // The reply might have been lost in the crash: the same save again changes nothing.
        let again = api.save(&server.server_id, ada.id(), "purse", (epoch, sequence), value(sequence))?;
        ensure!(again.outcome == SaveOutcome::Replayed && again.version == sequence, "{again:?}");
    }

    ensure!(api.signing_keys()? == keys, "other keys: every token of a running game would be worthless");
    ensure!(api.rooms()?.iter().any(|room| room.room_id == server.server_id), "the lease is gone");
    ada.ticket(&server.server_id)?;
    backend.stop()
}
