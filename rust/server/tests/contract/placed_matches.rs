//! Matches and their rooms: the seats of the players are theirs from the moment the match has its room, and a room is created where
//! that is wanted and there is none.

use std::time::Duration;

use backend_server::Config;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, at_once, on_both_databases, text};
use crate::matchmaking::{Guest, guest, ticket_id, until};
use crate::rooms_on_demand::{SERVER, kept, with_servers};

/// Matchmakers of pairs: `duel`, `open` with a seat for somebody who comes later, `own` and `hasty`, which create rooms.
fn pairs(config: &mut Config) {
    let key_file = config.server_key_file.clone().expect("a key file");
    let folder = key_file.parent().expect("the test's own");
    let rule_set = json!({
        "ruleLanguageVersion": "1.0",
        "playerAttributes": [{"name": "skill", "type": "number", "default": 50}],
        "teams": [{"name": "side", "minPlayers": 1, "maxPlayers": 1, "quantity": 2}],
        "rules": [{"name": "Skill", "type": "batchDistance", "batchAttribute": "skill", "maxDistance": 10}],
    });
    let matchmaker = |name: &str, change: Value| {
        let mut one = json!({"name": name, "rule_set": "rules.json", "request_timeout_seconds": 3600,
            "placement_timeout_seconds": 3600, "room": {"mode": "duel"}});
        for (member, value) in change.as_object().into_iter().flatten() {
            one[member] = value.clone();
        }
        one
    };
    let mut matchmakers =
        vec![matchmaker("duel", json!({})), matchmaker("open", json!({"additional_player_count": 1}))];
    if config.rooms_on_demand.is_some() {
        let room = json!({"mode": "own", "map": "swamp", "create": true});
        matchmakers.push(matchmaker("own", json!({ "room": room })));
        matchmakers.push(matchmaker("hasty", json!({"placement_timeout_seconds": 5, "room": room})));
    }
    let file = json!({"interval_ms": 50, "matchmakers": matchmakers});
    for (name, content) in [("rules.json", rule_set), ("matchmaking.json", file)] {
        std::fs::write(folder.join(name), content.to_string()).expect("written");
    }
    config.matchmaking = Some(folder.join("matchmaking.json"));
    config.new_accounts_per_minute = 0;
}

fn pairs_with_servers(config: &mut Config) {
    with_servers(config, SERVER, &json!({}));
    pairs(config);
}

fn pairs_with_a_spare(config: &mut Config) {
    with_servers(config, SERVER, &json!({"spare_servers": 1}));
    pairs(config);
}

fn pairs_whose_servers_fail(config: &mut Config) {
    with_servers(config, "exit 3", &json!({}));
    pairs(config);
}

async fn room(backend: &Backend, name: &str, change: Value) -> String {
    let mut entry = json!({"mode": "duel", "max_players": 2});
    for (member, value) in change.as_object().into_iter().flatten() {
        entry[member] = value.clone();
    }
    backend.server(name, entry).await
}

async fn join(backend: &Backend, guest: &Guest, room_id: &str) -> Answer {
    backend.post(&format!("/v1/rooms/{room_id}/ticket"), &guest.token, &json!({})).await
}

async fn reserved(backend: &Backend, room_id: &str) -> Value {
    backend.get(&format!("/v1/rooms/{room_id}"), &backend.key).await.expect(200)["reserved"].clone()
}

/// Two guests who search, with their tickets.
async fn pair(backend: &Backend, matchmaker: &str, skill: f64) -> [(Guest, String); 2] {
    let (ada, bob) = (guest(backend, "Ada").await, guest(backend, "Bob").await);
    let first = ticket_id(backend, &ada, matchmaker, skill).await;
    let second = ticket_id(backend, &bob, matchmaker, skill).await;
    [(ada, first), (bob, second)]
}

/// Waits until the pair has its room, and gives that.
async fn placed(backend: &Backend, pair: &[(Guest, String); 2]) -> String {
    let mut rooms = Vec::new();
    for (guest, ticket_id) in pair {
        rooms.push(text(&until(backend, &guest.token, ticket_id, "completed").await["match"]["room_id"]));
    }
    assert_eq!(rooms[0], rooms[1]);
    rooms.remove(0)
}

on_both_databases! {
    async fn strangers_take_no_seat_of_a_placed_match(backend, pairs) {
        let pond = room(backend, "Pond", json!({})).await;
        let eve = guest(backend, "Eve").await;
        let pair = pair(backend, "duel", 50.0).await;
        assert_eq!(placed(backend, &pair).await, pond);
        assert_eq!(reserved(backend, &pond).await, 2);
        join(backend, &eve, &pond).await.refused(409, "room_full");
        let open = backend.get("/v1/rooms?not_full=true", &eve.token).await.expect(200);
        assert_eq!(open["rooms"], json!([]));
        // The players take their seats over, also again.
        for (guest, _) in [&pair[0], &pair[1], &pair[0]] {
            join(backend, guest, &pond).await.expect(200);
            assert_eq!(reserved(backend, &pond).await, 2);
            join(backend, &eve, &pond).await.refused(409, "room_full");
        }
        // Those who do not come have their seats as long as a ticket would have been good.
        backend.execute("UPDATE seats SET expires_at = 1").await;
        join(backend, &eve, &pond).await.expect(200);
    }

    async fn a_seat_elsewhere_is_given_back_and_others_stay_open(backend, pairs) {
        let lake = backend.server("Lake", json!({"mode": "race", "max_players": 2})).await;
        let pair = pair(backend, "open", 50.0).await;
        join(backend, &pair[0].0, &lake).await.expect(200);
        let pond = room(backend, "Pond", json!({"max_players": 4})).await;
        assert_eq!(placed(backend, &pair).await, pond);
        assert_eq!((reserved(backend, &pond).await, reserved(backend, &lake).await), (json!(3), json!(0)));
        // One seat is nobody's yet, and is kept; one is free.
        let (eve, cy) = (guest(backend, "Eve").await, guest(backend, "Cy").await);
        join(backend, &eve, &pond).await.expect(200);
        join(backend, &cy, &pond).await.refused(409, "room_full");
    }

    async fn a_running_game_gets_players_when_it_has_seats_for_them(backend, pairs) {
        let full = room(backend, "Full", json!({"players": 2})).await;
        let body = json!({"matchmaker": "duel", "backfill_server_id": full,
            "players": [{"player_id": "somebody", "attributes": {"skill": 50}, "team": "side_1"}]});
        backend.serve("/v1/matchmaking/tickets", &body).await.expect(201);
        let ada = guest(backend, "Ada").await;
        let ticket = ticket_id(backend, &ada, "duel", 50.0).await;
        until(backend, &ada.token, &ticket, "placing").await;
        let beat = |sequence: u64, players: u64| json!({"sequence": sequence, "players": players});
        let path = format!("/v1/servers/{full}/heartbeat");
        backend.serve(&path, &beat(1, 1)).await.expect(200);
        let done = until(backend, &ada.token, &ticket, "completed").await;
        assert_eq!(done["match"]["room_id"], full.as_str());
        // The seat of the player who is there already is none of the match's.
        assert_eq!(reserved(backend, &full).await, 1);
        join(backend, &guest(backend, "Eve").await, &full).await.refused(409, "room_full");
        join(backend, &ada, &full).await.expect(200);
    }

    /// Pairs are placed through two replicas, while strangers try to get in everywhere.
    async fn no_seat_is_given_to_a_match_and_to_a_stranger(backend, pairs) {
        const PAIRS: usize = 6;
        let replica = backend.beside(pairs).await;
        let mut rooms = Vec::new();
        for number in 0..PAIRS {
            rooms.push(room(backend, &format!("Pond {number}"), json!({})).await);
        }
        let mut strangers = Vec::new();
        for _ in 0..3 * PAIRS {
            strangers.push(guest(backend, "Eve").await);
        }
        let search = at_once((0..PAIRS).map(|number| {
            let through = if number % 2 == 0 { backend } else { &replica };
            async move { pair(through, "duel", number as f64 * 100.0).await }
        }));
        let intrude = at_once(strangers.iter().enumerate().map(|(number, eve)| {
            let through = if number % 2 == 0 { backend } else { &replica };
            let rooms = &rooms;
            async move {
                for offset in 0..4 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    join(through, eve, &rooms[(number + offset) % PAIRS]).await;
                }
            }
        }));
        let (pairs, _) = tokio::join!(search, intrude);
        // A match waits only as long as strangers are in all rooms.
        let settled = "SELECT COUNT(*) FROM (SELECT match_id FROM matchmaking_matches WHERE status = 'placing') AS waiting \
            WHERE EXISTS (SELECT 1 FROM servers WHERE NOT EXISTS (SELECT 1 FROM seats WHERE seats.server_id = servers.server_id))";
        let matches = "SELECT COUNT(*) FROM matchmaking_matches";
        while backend.count(matches).await != PAIRS as i64 || backend.count(settled).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let over = "SELECT COUNT(*) FROM (SELECT server_id FROM seats GROUP BY server_id HAVING COUNT(*) > 2) AS over_full";
        assert_eq!(backend.count(over).await, 0, "a seat was given twice");
        let mut completed = 0;
        for [(ada, first), (bob, second)] in &pairs {
            let path = |ticket: &str| format!("/v1/matchmaking/tickets/{ticket}");
            let one = backend.get(&path(first), &ada.token).await.expect(200);
            let other = backend.get(&path(second), &bob.token).await.expect(200);
            assert_eq!((&one["status"], &one["match"]), (&other["status"], &other["match"]));
            if one["status"] == "completed" {
                completed += 2;
                let room_id = text(&one["match"]["room_id"]);
                join(backend, ada, &room_id).await.expect(200);
                join(&replica, bob, &room_id).await.expect(200);
            }
        }
        let seated = "SELECT COUNT(*) FROM matchmaking_tickets JOIN seats ON seats.server_id = matchmaking_tickets.server_id \
            AND seats.player_id = matchmaking_tickets.creator WHERE status = 'completed'";
        assert_eq!(backend.count(seated).await, completed);
        replica.stop().await;
    }

    async fn a_room_is_created_for_a_match(backend, pairs_with_servers) {
        let pair = pair(backend, "own", 50.0).await;
        let room_id = placed(backend, &pair).await;
        let room = backend.get(&format!("/v1/rooms/{room_id}"), &backend.key).await.expect(200);
        for (member, value) in [("mode", json!("own")), ("map", json!("swamp")), ("max_players", json!(2)), ("reserved", json!(2)),
            ("visibility", json!("unlisted"))] {
            assert_eq!(room[member], value, "{member}: {room}");
        }
        // Nobody finds it, and who knows of it gets no seat.
        let eve = guest(backend, "Eve").await;
        assert_eq!(backend.get("/v1/rooms", &eve.token).await.expect(200)["rooms"], json!([]));
        join(backend, &eve, &room_id).await.refused(409, "room_full");
        for (guest, _) in &pair {
            join(backend, guest, &room_id).await.expect(200);
        }
        // It is no room of a player's, and nobody waits for it any more.
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations WHERE creator IS NULL AND spare = 0").await, 1);
        assert_eq!(backend.count("SELECT COUNT(*) FROM room_requests").await, 0);
        // When its players are gone, it is the next match's.
        backend.execute("UPDATE seats SET expires_at = 1").await;
        let next = [ticket_id(backend, &eve, "own", 1.0).await, ticket_id(backend, &pair[0].0, "own", 1.0).await];
        let done = until(backend, &eve.token, &next[0], "completed").await;
        assert_eq!(done["match"]["room_id"], room_id.as_str());
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 1);
    }

    async fn a_match_takes_a_spare(backend, pairs_with_a_spare) {
        while backend.count("SELECT COUNT(*) FROM allocations WHERE spare = 1 AND status = 'ready'").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let spare = backend.text("SELECT server_id FROM allocations WHERE status = 'ready'").await;
        let pair = pair(backend, "own", 50.0).await;
        assert_eq!(placed(backend, &pair).await, spare);
        assert_eq!(reserved(backend, &spare).await, 2);
        join(backend, &guest(backend, "Eve").await, &spare).await.refused(409, "room_full");
    }

    async fn a_room_that_comes_free_is_taken_and_the_server_that_starts_given_up(backend, |config| {
        with_servers(config, crate::rooms_on_demand::HANGING, &json!({"start_timeout_seconds": 600}));
        pairs(config);
    }) {
        let pair = pair(backend, "own", 50.0).await;
        while backend.count("SELECT COUNT(*) FROM allocations WHERE status = 'starting'").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        until(backend, &pair[0].0.token, &pair[0].1, "placing").await;
        let free = room(backend, "Free", json!({"mode": "own", "map": "swamp"})).await;
        assert_eq!(placed(backend, &pair).await, free);
        assert_eq!(backend.text("SELECT reason FROM allocations").await, "its match has another room");
        while kept(&backend.folder().join("room-servers")) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn a_match_whose_room_does_not_start_fails_and_leaves_nothing(backend, pairs_whose_servers_fail) {
        let pair = pair(backend, "hasty", 50.0).await;
        for (guest, ticket_id) in &pair {
            assert_eq!(until(backend, &guest.token, ticket_id, "failed").await["reason"], "no_room");
        }
        while backend.count("SELECT COUNT(*) FROM allocations WHERE ended_at IS NULL").await > 0
            || kept(&backend.folder().join("room-servers")) > 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // One that fails is not started over and over. On a machine that is very busy, the time is over before the first.
        let count = backend.count("SELECT COUNT(*) FROM allocations").await;
        assert!(count <= 1, "{count}");
        assert_eq!(backend.count("SELECT COUNT(*) FROM room_requests").await + backend.count("SELECT COUNT(*) FROM seats").await, 0);
    }
}

#[tokio::test]
async fn rooms_are_created_for_matches_only_where_rooms_are_created() {
    let folder = tempfile::tempdir().expect("folder");
    let mut config = Config {
        database: folder.path().join("backend.db").display().to_string(),
        server_key_file: Some(folder.path().join("server.key")),
        listen: ([127, 0, 0, 1], 0).into(),
        ..Config::default()
    };
    pairs_with_servers(&mut config);
    config.rooms_on_demand = None;
    let error = backend_server::start(config).await.err().expect("refused").to_string();
    assert!(error.contains("matchmaker own: room.create: needs --rooms-on-demand"), "{error}");
}
