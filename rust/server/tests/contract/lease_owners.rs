//! A lease belongs to the line of server keys that got it, and to its environment.

use backend_server::database::Database;
use backend_server::server_keys::{self, NewKey};
use serde_json::{Value, json};

use crate::harness::{Backend, on_both_databases, text};
use crate::player_store::{item, load, release, save_one};

/// A game server with a key of its own.
pub struct Stranger {
    pub key: String,
    pub server_id: String,
}

impl Stranger {
    /// Of the same game and environment as `backend`.
    pub async fn of(backend: &Backend) -> Self {
        let database = Database::open(backend.database()).await.expect("opens");
        let new = NewKey { game: "default".into(), environment: "live".into(), label: "stranger".into() };
        let key = server_keys::create(&database, &new).await.expect("made").key;
        database.close().await;
        Self::with_key(backend, key).await
    }

    async fn with_key(backend: &Backend, key: String) -> Self {
        let body = json!({"instance_id": uuid::Uuid::new_v4(), "name": "Stranger", "address": "127.0.0.1", "port": 1,
            "max_players": 2});
        let server_id = text(&backend.post("/v1/servers", &key, &body).await.expect(201)["server_id"]);
        Self { key, server_id }
    }

    /// Result and code of one save under an epoch as it stands on the wire.
    pub async fn saves(&self, backend: &Backend, player: &str, epoch: i64, sequence: i64) -> (String, Value) {
        let value = json!({"by": "a stranger"});
        let body = json!({"server_id": self.server_id, "items": [item(player, epoch, sequence, &value)]});
        let result =
            backend.post("/v1/players/save", &self.key, &body).await.expect(200)["results"][0].clone();
        (text(&result["outcome"]), result["code"].clone())
    }
}

fn refused(code: &str) -> (String, Value) {
    ("refused".to_owned(), json!(code))
}

async fn conflicts(backend: &Backend) -> i64 {
    backend.count("SELECT COUNT(*) FROM save_conflicts").await
}

on_both_databases! {
    async fn a_foreign_key_writes_no_player(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let holder = backend.server("Holder", json!({})).await;
        let stranger = Stranger::of(backend).await;
        load(backend, &holder, &player).await;
        assert_eq!(save_one(backend, &holder, &player, (1, 1), json!({"by": "the holder"})).await, "applied");
        let epoch = backend.epoch(&player, 1);
        // Small ones, as they were once, and the right one, of which a log may have told.
        for guess in [1, 2, 3, epoch] {
            for sequence in [1, 2, i64::MAX] {
                assert_eq!(stranger.saves(backend, &player, guess, sequence).await, refused("epoch_unknown"), "{guess}");
            }
        }
        assert_eq!(stranger.saves(backend, "nobody", epoch, 1).await, refused("player_not_found"));
        assert_eq!(conflicts(backend).await, 0);
        assert_eq!(save_one(backend, &holder, &player, (1, 2), json!({"by": "the holder"})).await, "applied");
        let path = format!("/v1/players/{player}/conflicts");
        backend.get(&path, &stranger.key).await.refused(409, "lease_lost");
        // Nor when it is over.
        release(backend, &holder, &player, 1).await;
        assert_eq!(stranger.saves(backend, &player, epoch, 9).await, refused("epoch_unknown"));
        load(backend, &holder, &player).await;
        assert_eq!(stranger.saves(backend, &player, epoch, 9).await, refused("epoch_unknown"));
        assert_eq!(conflicts(backend).await, 0);
        let loaded = load(backend, &holder, &player).await;
        assert_eq!((&loaded["documents"][0]["value"], &loaded["documents"][0]["version"]), (&json!({"by": "the holder"}), &json!(2)));
    }

    async fn each_line_of_keys_delivers_what_it_saved_under_its_own_epochs(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let first = backend.server("First", json!({})).await;
        let stranger = Stranger::of(backend).await;
        load(backend, &first, &player).await;
        release(backend, &first, &player, 1).await;
        let body = json!({"server_id": stranger.server_id, "player_ids": [player]});
        let taken = backend.post("/v1/players/load", &stranger.key, &body).await.expect(200);
        let second = taken["players"][0]["epoch"].as_i64().expect("number");
        assert!(second > backend.epoch(&player, 1));
        assert_eq!(stranger.saves(backend, &player, second, 1).await, ("applied".to_owned(), Value::Null));
        // From the journal of the first one's dead process, by another server of its line.
        let heir = backend.server("Heir", json!({})).await;
        assert_eq!(save_one(backend, &heir, &player, (1, 5), json!({"by": "the first"})).await, "conflicted");
        assert_eq!(save_one(backend, &heir, &player, (second, 5), json!({"by": "the first"})).await, "refused");
        let path = format!("/v1/players/{player}/conflicts");
        let conflicts = &backend.get(&path, &stranger.key).await.expect(200)["conflicts"];
        let id = &conflicts[0]["conflict_id"];
        backend.get(&path, &backend.key).await.refused(409, "lease_lost");
        let resolve = |server_id: &str| json!({"server_id": server_id, "conflict_ids": [id]});
        backend.serve("/v1/players/conflicts/resolve", &resolve(&heir)).await.refused(409, "lease_lost");
        backend.serve("/v1/players/conflicts/resolve", &resolve(&stranger.server_id)).await.refused(404, "server_unknown");
        let resolved = backend.post("/v1/players/conflicts/resolve", &stranger.key, &resolve(&stranger.server_id)).await;
        resolved.expect(204);
    }

    async fn a_rotated_key_is_of_the_same_line(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let stranger = Stranger::of(backend).await;
        let body = json!({"server_id": stranger.server_id, "player_ids": [player]});
        let taken = backend.post("/v1/players/load", &stranger.key, &body).await.expect(200);
        let epoch = taken["players"][0]["epoch"].as_i64().expect("number");
        let database = Database::open(backend.database()).await.expect("opens");
        let id = server_keys::list(&database).await.expect("listed").into_iter().find(|key| key.label == "stranger");
        let key = server_keys::rotate(&database, &id.expect("there").key_id, 600).await.expect("rotated").key;
        database.close().await;
        let heir = Stranger::with_key(backend, key).await;
        assert_eq!(heir.saves(backend, &player, epoch, 1).await, ("applied".to_owned(), Value::Null));
    }

    async fn nobody_can_use_up_the_sequences(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let (holder, next) = (backend.server("Holder", json!({})).await, backend.server("Next", json!({})).await);
        load(backend, &holder, &player).await;
        for sequence in [i64::MAX, (1 << 32) + 1] {
            assert_eq!(save_one(backend, &holder, &player, (1, sequence), json!({})).await, "refused");
        }
        assert_eq!(save_one(backend, &holder, &player, (1, 1 << 32), json!({})).await, "applied");
        assert_eq!(save_one(backend, &holder, &player, (1, i64::MAX), json!({})).await, "refused");
        assert_eq!(save_one(backend, &holder, &player, (1, 2 << 32), json!({})).await, "applied");
        release(backend, &holder, &player, 1).await;
        load(backend, &next, &player).await;
        assert_eq!(save_one(backend, &holder, &player, (1, i64::MAX), json!({})).await, "refused");
        assert_eq!(save_one(backend, &next, &player, (2, 1), json!({})).await, "applied");
        assert_eq!(save_one(backend, &holder, &player, (1, (2 << 32) + 1), json!({})).await, "conflicted");
    }

    async fn a_foreign_key_writes_no_world(backend) {
        let holder = backend.server("Holder", json!({})).await;
        let stranger = Stranger::of(backend).await;
        let lease = backend.serve("/v1/worlds/w/open", &json!({"server_id": holder, "opening": 1})).await.expect(200);
        let epoch = lease["epoch"].as_i64().expect("number");
        for guess in [1, 2, epoch] {
            let body = json!({"server_id": stranger.server_id, "epoch": guess, "sequence": 1, "removed": ["a"]});
            backend.post("/v1/worlds/w/commit", &stranger.key, &body).await.refused(409, "lease_lost");
        }
        let body = json!({"server_id": holder, "epoch": epoch, "sequence": 1, "removed": ["a"]});
        assert_eq!(backend.serve("/v1/worlds/w/commit", &body).await.expect(200)["version"], 1);
    }

    async fn environments_on_one_database_are_apart(backend) {
        let staging = backend.beside(|config| config.environment = "staging".into()).await;
        let guest = backend.guest("Ada").await;
        let (player, token) = (text(&guest["player_id"]), text(&guest["access_token"]));
        let theirs = text(&staging.guest("Bea").await["player_id"]);
        let (live, there) = (backend.server("Live", json!({})).await, staging.server("There", json!({})).await);
        load(backend, &live, &player).await;
        let epoch = backend.epoch(&player, 1);
        // Not even whether somebody holds the player.
        let nobody = json!({"players": [], "held": []});
        let body = json!({"server_id": there, "player_ids": [player]});
        assert_eq!(staging.serve("/v1/players/load", &body).await.expect(200), nobody);
        let stranger = Stranger { key: staging.key.clone(), server_id: there.clone() };
        assert_eq!(stranger.saves(&staging, &player, epoch, 1).await, refused("player_not_found"));
        release(backend, &live, &player, 1).await;
        assert_eq!(staging.serve("/v1/players/load", &body).await.expect(200), nobody);
        let body = json!({"server_id": live, "player_ids": [theirs]});
        assert_eq!(backend.serve("/v1/players/load", &body).await.expect(200), nobody);
        // Nor may a player of one go to a server of the other, or use its own token there.
        let validate = json!({"token": token});
        staging.serve("/v1/validate", &validate).await.refused(401, "token_invalid");
        staging.get("/v1/players/me/documents", &token).await.refused(401, "token_invalid");
        backend.serve("/v1/validate", &validate).await.expect(200);
        // Worlds as well.
        backend.serve("/v1/worlds/w/open", &json!({"server_id": live, "opening": 1})).await.expect(200);
        let open = json!({"server_id": there, "opening": 1});
        let refused = staging.serve("/v1/worlds/w/open", &open).await;
        refused.refused(422, "invalid_field");
        assert_eq!(refused.field(), "world_id");
        staging.get("/v1/worlds/w/chunks", &staging.key).await.refused(422, "invalid_field");
        staging.serve("/v1/worlds/v/open", &open).await.expect(200);
        assert_eq!(conflicts(backend).await, 0);
        staging.stop().await;
    }

    async fn an_account_of_one_environment_does_not_log_in_to_another(backend) {
        let staging = backend.beside(|config| config.environment = "staging".into()).await;
        let device = json!({"device_id": "0123456789abcdef0123"});
        backend.post("/v1/auth/device", "", &device).await.expect(200);
        staging.post("/v1/auth/device", "", &device).await.refused(404, "player_not_found");
        staging.stop().await;
    }

    async fn what_an_earlier_build_made_belongs_to_its_only_environment(backend) {
        let staging = backend.beside(|config| config.environment = "staging".into()).await;
        let player = text(&backend.guest("Ada").await["player_id"]);
        backend.execute("UPDATE players SET scope = NULL").await;
        // Two environments: nobody can tell whose it is.
        let there = staging.server("There", json!({})).await;
        let again = backend.beside(|_| {}).await;
        assert_eq!(backend.count("SELECT COUNT(*) FROM players WHERE scope IS NULL").await, 1);
        load(&staging, &there, &player).await;
        release(&staging, &there, &player, 1).await;
        backend.execute("DELETE FROM server_keys WHERE environment = 'staging'").await;
        let third = backend.beside(|_| {}).await;
        assert_eq!(backend.count("SELECT COUNT(*) FROM players WHERE scope = 'default/live'").await, 1);
        for other in [staging, again, third] {
            other.stop().await;
        }
    }
}
