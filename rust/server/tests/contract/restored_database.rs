//! A database that was restored from an older copy: nothing that was confirmed is missed unnoticed, and no epoch comes again.

use serde_json::{Value, json};

use crate::harness::{Backend, on_both_databases, text};
use crate::player_store::{item, load, release, save, save_one};

/// Players whom the backend does not release, because it lacks what it had confirmed.
async fn behind(backend: &Backend, server: &str, player: &str, epoch: i64, saved: i64) -> Value {
    behind_versions(backend, server, player, epoch, (saved, 0)).await
}

async fn behind_versions(
    backend: &Backend,
    server: &str,
    player: &str,
    epoch: i64,
    (saved, versions): (i64, i64),
) -> Value {
    let epoch = backend.epoch(player, epoch);
    let player =
        json!({"player_id": player, "epoch": epoch, "saved_sequences": saved, "saved_versions": versions});
    let body = json!({"server_id": server, "players": [player]});
    backend.serve("/v1/players/release", &body).await.expect(200)["behind"].clone()
}

on_both_databases! {
    async fn a_player_is_not_released_while_confirmed_saves_are_missing(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        load(backend, &a, &player).await;
        for sequence in [1, 2] {
            assert_eq!(save_one(backend, &a, &player, (1, sequence), json!({"n": sequence})).await, "applied");
        }
        // As a backup from between the two has it.
        backend.execute("UPDATE documents SET sequence = 1, version = 1").await;
        assert_eq!(behind(backend, &a, &player, 1, 2).await, json!([player]));
        assert_eq!(crate::player_store::ask(backend, &b, &player).await["players"], json!([]), "still held");
        assert_eq!(save_one(backend, &a, &player, (1, 2), json!({"n": 2})).await, "applied");
        // The last save is there, an earlier one of another document is not.
        assert_eq!(behind_versions(backend, &a, &player, 1, (2, 3)).await, json!([player]));
        assert_eq!(behind_versions(backend, &a, &player, 1, (2, 2)).await, json!([]));
        assert_eq!(load(backend, &b, &player).await["epoch"], 2);
        assert_eq!(save_one(backend, &b, &player, (2, 1), json!({"n": 3})).await, "applied");
        // Repeated after others have saved: nothing is missing.
        assert_eq!(behind(backend, &a, &player, 1, 2).await, json!([]));
        assert_eq!(behind(backend, &b, &player, 2, 1).await, json!([]));
    }

    async fn a_player_is_not_released_while_one_of_several_documents_is_older(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        load(backend, &a, &player).await;
        let inventory = |epoch: i64, sequence: i64| {
            let mut item = item(&player, epoch, sequence, &json!({"n": sequence}));
            item["key"] = "inventory".into();
            item
        };
        assert_eq!(save_one(backend, &a, &player, (1, 1), json!({"n": 1})).await, "applied");
        save(backend, &a, vec![inventory(1, 2)]).await;
        save(backend, &a, vec![inventory(1, 3)]).await;
        // A copy from before the last save of `inventory`, in which versions are higher than what the server was told last: the
        // database had gone back once before.
        backend.execute("UPDATE documents SET sequence = 2, version = 9 WHERE document_key = 'inventory'").await;
        assert_eq!(save_one(backend, &a, &player, (1, 4), json!({"n": 4})).await, "applied");
        assert_eq!(behind_versions(backend, &a, &player, 1, (7, 4)).await, json!([player]));
        save(backend, &a, vec![inventory(1, 3)]).await;
        assert_eq!(behind_versions(backend, &a, &player, 1, (7, 4)).await, json!([]));
        // What others have saved since does not hide it.
        load(backend, &b, &player).await;
        save(backend, &b, vec![inventory(2, 1)]).await;
        assert_eq!(behind_versions(backend, &a, &player, 1, (7, 4)).await, json!([]));
        backend.execute("UPDATE former_epochs SET sequence = 2").await;
        assert_eq!(behind_versions(backend, &a, &player, 1, (7, 4)).await, json!([player]));
    }

    async fn what_was_only_loaded_is_applied_where_the_database_lacks_it(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        load(backend, &a, &player).await;
        assert_eq!(save_one(backend, &a, &player, (1, 1), json!({"n": 1})).await, "applied");
        release(backend, &a, &player, 1).await;
        load(backend, &b, &player).await;
        let send = async |sequence: i64| {
            let mut item = item(&player, backend.epoch(&player, 2), sequence, &json!({"n": 1}));
            item["loaded_version"] = json!(1);
            let body = json!({"server_id": b, "items": [item]});
            let result = &backend.serve("/v1/players/save", &body).await.expect(200)["results"][0];
            (text(&result["outcome"]), result["version"].as_i64().expect("number"))
        };
        assert_eq!(send(1).await, ("replayed".to_owned(), 1));
        backend.execute("DELETE FROM documents").await;
        assert_eq!(send(1).await, ("applied".to_owned(), 1));
        assert_eq!(send(2).await, ("replayed".to_owned(), 1));
    }

    async fn what_was_only_loaded_is_kept_where_the_version_came_again_with_another_content(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        load(backend, &a, &player).await;
        assert_eq!(save_one(backend, &a, &player, (1, 1), json!({"n": 1})).await, "applied");
        release(backend, &a, &player, 1).await;
        load(backend, &b, &player).await;
        let epoch = backend.epoch(&player, 2);
        let send = async |n: i64| {
            let mut item = item(&player, epoch, 1, &json!({"n": n}));
            item["loaded_version"] = json!(1);
            let body = json!({"server_id": b, "items": [item]});
            let result = &backend.serve("/v1/players/save", &body).await.expect(200)["results"][0];
            (text(&result["outcome"]), result["code"].clone())
        };
        // As the lease is known, the version is the one that was loaded.
        assert_eq!(send(7).await.0, "replayed");
        // As a backup from before B loaded the player has it; A saved something else since, as the same version.
        backend.execute("UPDATE player_leases SET epoch = 1, server_id = NULL").await;
        backend.execute("DELETE FROM former_leases").await;
        assert_eq!(send(1).await.0, "replayed");
        assert_eq!(send(7).await, ("conflicted".to_owned(), json!("rolled_back")));
        // A later version may be made of it.
        backend.execute("UPDATE documents SET version = 2").await;
        assert_eq!(send(8).await.0, "replayed");
    }

    async fn a_heartbeat_shows_that_the_database_went_back(backend) {
        let server = backend.server("A", json!({})).await;
        let path = format!("/v1/servers/{server}/heartbeat");
        let beat = |sequence: u64, confirmed: u64| json!({"sequence": sequence, "players": 0, "confirmed_sequence": confirmed});
        backend.serve(&path, &json!({"sequence": 5, "players": 0})).await.expect(200);
        assert_eq!(backend.serve(&path, &beat(6, 5)).await.expect(200)["rolled_back"], Value::Null);
        backend.execute("UPDATE servers SET heartbeat_sequence = 4").await;
        // Its reply may be lost: also the repetition, and the next one that knows of no reply, say so.
        for (sequence, confirmed) in [(7, 6), (7, 6), (8, 6), (8, 6)] {
            assert_eq!(backend.serve(&path, &beat(sequence, confirmed)).await.expect(200)["rolled_back"], true);
        }
        assert_eq!(backend.serve(&path, &beat(9, 8)).await.expect(200)["rolled_back"], Value::Null);
        let wrong = backend.serve(&path, &beat(10, u64::MAX)).await;
        assert_eq!(wrong.field(), "confirmed_sequence");
    }

    async fn a_world_is_not_released_while_confirmed_commits_are_missing(backend) {
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        let open = async |server: &str| backend.serve("/v1/worlds/w/open", &json!({"server_id": server, "opening": 1})).await;
        let epoch = open(&a).await.expect(200)["epoch"].clone();
        backend.execute("UPDATE worlds SET version = 3").await;
        let release = |saved: i64| json!({"server_id": a, "epoch": epoch, "saved_version": saved});
        backend.serve("/v1/worlds/w/release", &release(4)).await.refused(409, "rolled_back");
        open(&b).await.refused(409, "world_held");
        // A copy with a higher version than the last that was confirmed, in which the last commit is not.
        backend.execute("UPDATE worlds SET version = 9, sequence = 6").await;
        let mut body = release(4);
        body["saved_sequence"] = json!(7);
        backend.serve("/v1/worlds/w/release", &body).await.refused(409, "rolled_back");
        open(&b).await.refused(409, "world_held");
        body["saved_sequence"] = json!(6);
        backend.serve("/v1/worlds/w/release", &body).await.expect(204);
        open(&b).await.expect(200);
        // Repeated after others have taken the world: nothing is missing.
        body["saved_sequence"] = json!(7);
        backend.serve("/v1/worlds/w/release", &body).await.expect(204);
        open(&a).await.refused(409, "world_held");
    }

    async fn a_lease_that_the_database_has_lost_is_given_back(backend) {
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        let open = json!({"server_id": a, "opening": 1});
        let epoch = backend.serve("/v1/worlds/w/open", &open).await.expect(200)["epoch"].clone();
        let commit = |server: &str, sequence: i64| json!({"server_id": server, "epoch": epoch, "sequence": sequence, "removed": ["c"]});
        for lost in ["DELETE FROM worlds", "UPDATE worlds SET epoch = 1, server_id = NULL, lease_until = 0, sequence = 9"] {
            backend.execute("DELETE FROM world_commits").await;
            backend.execute("DELETE FROM world_chunks").await;
            backend.execute(lost).await;
            let first = backend.serve("/v1/worlds/w/commit", &commit(&a, 3)).await.expect(200)["version"].as_i64();
            assert_eq!(backend.serve("/v1/worlds/w/commit", &commit(&a, 4)).await.expect(200)["version"].as_i64(), first.map(|version| version + 1));
            backend.serve("/v1/worlds/w/open", &json!({"server_id": b, "opening": 1})).await.refused(409, "world_held");
        }
        backend
            .execute("UPDATE worlds SET epoch = 1, server_id = (SELECT server_id FROM servers WHERE server_id <> worlds.server_id)")
            .await;
        backend.serve("/v1/worlds/w/commit", &commit(&a, 5)).await.refused(409, "world_held");
    }
}

/// A database that is restored from an older copy: nothing that was given since comes again, and what was saved under it is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_never_come_again_after_the_database_went_back() {
    let backend = Backend::on_sqlite().await;
    let player = text(&backend.guest("Ada").await["player_id"]);
    let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
    load(&backend, &a, &player).await;
    assert_eq!(save_one(&backend, &a, &player, (1, 1), json!({"n": 1})).await, "applied");
    release(&backend, &a, &player, 1).await;
    let world = async |backend: &Backend, server: &str, opening: u64| {
        let body = json!({"server_id": server, "opening": opening});
        let epoch =
            backend.serve("/v1/worlds/w/open", &body).await.expect(200)["epoch"].as_i64().expect("number");
        backend
            .serve("/v1/worlds/w/release", &json!({"server_id": server, "epoch": epoch}))
            .await
            .expect(204);
        epoch
    };
    let mut worlds = vec![world(&backend, &a, 1).await];
    let copy = backend.copy_database();

    // What is lost: hand-overs to both, with saves.
    for (epoch, server) in [(2, &b), (3, &a), (4, &b)] {
        assert_eq!(load(&backend, server, &player).await["epoch"], epoch);
        assert_eq!(save_one(&backend, server, &player, (epoch, 1), json!({"n": epoch})).await, "applied");
        if epoch < 4 {
            release(&backend, server, &player, epoch).await;
        }
        worlds.push(world(&backend, server, 10 + epoch.unsigned_abs()).await);
    }
    let backend = backend.restart_on(&copy).await;

    // The holder that the copy does not know learns so when it releases the player, also with nothing saved.
    for saved in [0, 2] {
        assert_eq!(behind(&backend, &b, &player, 4, saved).await, json!([player]));
    }
    // It is no longer one, and its save is kept.
    let lost =
        json!({"server_id": b, "items": [item(&player, backend.epoch(&player, 4), 2, &json!({"n": 42}))]});
    let result = backend.serve("/v1/players/save", &lost).await.expect(200)["results"][0].clone();
    assert_eq!((&result["outcome"], &result["code"]), (&json!("conflicted"), &json!("rolled_back")));
    assert_eq!(
        save_one(&backend, &b, &player, (backend.epoch(&player, 4) + (1 << 11), 2), json!({})).await,
        "refused"
    );
    // `ordinal` refuses an epoch that is not larger than all before.
    let loaded = load(&backend, &a, &player).await;
    assert_eq!((&loaded["epoch"], &loaded["documents"][0]["value"]), (&json!(5), &json!({"n": 1})));
    assert_eq!(loaded["conflicts"][0]["value"], json!({"n": 42}));
    assert_eq!(save_one(&backend, &a, &player, (5, 1), json!({"n": 5})).await, "applied");
    assert_eq!(save_one(&backend, &a, &player, (3, 9), json!({"n": 39})).await, "conflicted");
    assert_eq!(load(&backend, &a, &player).await["documents"][0]["value"], json!({"n": 5}));
    worlds.push(world(&backend, &b, 20).await);
    assert!(worlds.is_sorted_by(|one, next| one < next), "{worlds:?}");
    backend.stop().await;
}

/// A world that was taken after the backup: its holder gets the lease back with its next commit, unless somebody else has the world.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_world_that_was_opened_after_the_backup_is_given_back() {
    let backend = Backend::on_sqlite().await;
    let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
    let open = async |backend: &Backend, world: &str, server: &str, opening: u64| {
        let path = format!("/v1/worlds/{world}/open");
        backend.serve(&path, &json!({"server_id": server, "opening": opening})).await
    };
    let commit = async |backend: &Backend, world: &str, server: &str, epoch: &Value, sequence: i64| {
        let body = json!({"server_id": server, "epoch": epoch, "sequence": sequence, "removed": ["none"]});
        backend.serve(&format!("/v1/worlds/{world}/commit"), &body).await
    };
    // In the copy, A has "held", and nobody the others.
    open(&backend, "held", &a, 1).await.expect(200);
    let copy = backend.copy_database();
    backend.execute("UPDATE worlds SET server_id = NULL, lease_until = 0").await;
    let mut epochs = Vec::new();
    for world in ["new", "held", "taken"] {
        let epoch = open(&backend, world, &b, 2).await.expect(200)["epoch"].clone();
        for sequence in 1..=3 {
            commit(&backend, world, &b, &epoch, sequence).await.expect(200);
        }
        epochs.push(epoch);
    }
    let backend = backend.restart_on(&copy).await;

    // Nobody knows whether A has it still: as long as it may, B waits.
    commit(&backend, "held", &b, &epochs[1], 4).await.refused(409, "world_held");
    backend.execute("UPDATE worlds SET lease_until = 1 WHERE world_id = 'held'").await;
    for (world, epoch) in [("new", &epochs[0]), ("held", &epochs[1])] {
        let committed = commit(&backend, world, &b, epoch, 4).await.expect(200);
        assert_eq!((&committed["version"], &committed["replayed"]), (&json!(1), &json!(false)));
        assert_eq!(commit(&backend, world, &b, epoch, 5).await.expect(200)["version"], 2);
        open(&backend, world, &a, 3).await.refused(409, "world_held");
        // As any other lease, it goes by an orderly release, and the next epoch is above it.
        backend
            .serve(&format!("/v1/worlds/{world}/release"), &json!({"server_id": b, "epoch": epoch}))
            .await
            .expect(204);
        let next = open(&backend, world, &a, 4).await.expect(200)["epoch"].as_i64();
        assert!(next > epoch.as_i64(), "{next:?} {epoch}");
        commit(&backend, world, &b, epoch, 6).await.refused(409, "lease_lost");
    }
    // A took it after the restore: whatever B saved since the backup, A's state counts.
    open(&backend, "taken", &a, 5).await.expect(200);
    commit(&backend, "taken", &b, &epochs[2], 4).await.refused(409, "lease_lost");
    // Nor does a guess, another world's epoch or another line of keys give anything.
    let guess = json!(epochs[0].as_i64().expect("number") + (1 << 11));
    commit(&backend, "fresh", &b, &guess, 1).await.refused(409, "lease_lost");
    commit(&backend, "fresh", &b, &epochs[0], 1).await.refused(409, "lease_lost");
    backend.stop().await;
}

/// Epochs go on growing when the clock was set back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_from_the_future_is_followed_by_a_larger_one() {
    let backend = Backend::on_sqlite().await;
    let player = text(&backend.guest("Ada").await["player_id"]);
    let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
    load(&backend, &a, &player).await;
    release(&backend, &a, &player, 1).await;
    // Given a day ahead of what the clock says now.
    backend.execute("UPDATE player_leases SET epoch = epoch + (86400000 << 11)").await;
    for server in [&b, &a] {
        let epoch = load(&backend, server, &player).await["epoch"].as_i64().expect("number");
        assert_eq!(save_one(&backend, server, &player, (epoch, 1), json!({})).await, "applied");
        release(&backend, server, &player, epoch).await;
    }
    assert!(backend.epoch(&player, 3) < 1 << 53);
    backend.stop().await;
}
