//! Who holds a player: handing over, waiting, running out, coming back.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Backend, at_once, on_both_databases, text};
use crate::player_store::{ask, item, load, release, save, save_one};

async fn three(backend: &Backend) -> (String, String, String) {
    let player = text(&backend.guest("Ada").await["player_id"]);
    (player, backend.server("A", json!({})).await, backend.server("B", json!({})).await)
}

async fn beat(backend: &Backend, server_id: &str, sequence: u64) -> Value {
    let body = json!({"sequence": sequence, "players": 0});
    backend.serve(&format!("/v1/servers/{server_id}/heartbeat"), &body).await.expect(200)
}

/// Asks until the player is given, with heartbeats, without which the server would be forgotten.
async fn wait_for(backend: &Backend, server_id: &str, player_id: &str) -> Value {
    for sequence in 1.. {
        beat(backend, server_id, sequence).await;
        let reply = ask(backend, server_id, player_id).await;
        if reply["held"] == json!([]) {
            return reply["players"][0].clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("the player is given at some time")
}

/// How long the lease of `player_id`, which another server than `server_id` holds, still lasts.
async fn lasts(backend: &Backend, server_id: &str, player_id: &str) -> i64 {
    ask(backend, server_id, player_id).await["held"][0]["expires_in_ms"].as_i64().expect("held")
}

/// Lets a lease become shorter, and then longer by `renew`.
async fn renewed<F: Future<Output = ()>>(
    backend: &Backend,
    waiting: &str,
    player_id: &str,
    renew: impl Fn(i64) -> F,
) {
    let before = lasts(backend, waiting, player_id).await;
    let mut shorter = before;
    while shorter > before - 20 {
        shorter = lasts(backend, waiting, player_id).await;
    }
    // A slow machine may eat up what one renewal gives.
    for attempt in 1..=50 {
        renew(attempt).await;
        if lasts(backend, waiting, player_id).await > shorter {
            return;
        }
    }
    panic!("the lease was not renewed");
}

on_both_databases! {
    async fn who_holds_players_is_asked_for_a_faster_pulse(backend) {
        let (player, a, _) = three(backend).await;
        assert_eq!(beat(backend, &a, 1).await["heartbeat_seconds"], 30);
        let epoch = load(backend, &a, &player).await["epoch"].as_i64().expect("number");
        assert_eq!(beat(backend, &a, 2).await["heartbeat_seconds"], 5);
        release(backend, &a, &player, epoch).await;
        assert_eq!(beat(backend, &a, 3).await["heartbeat_seconds"], 30);
    }

    async fn who_has_let_players_in_is_asked_for_it_too(backend) {
        // To hear of a ban in time.
        let (_, a, _) = three(backend).await;
        assert_eq!(beat(backend, &a, 1).await["heartbeat_seconds"], 30);
        let body = json!({"sequence": 2, "players": 1});
        let reply = backend.serve(&format!("/v1/servers/{a}/heartbeat"), &body).await.expect(200);
        assert_eq!(reply["heartbeat_seconds"], 5);
    }

    async fn a_released_player_is_given_with_its_latest_save(backend) {
        let (player, a, b) = three(backend).await;
        assert_eq!(load(backend, &a, &player).await["epoch"], 1);
        assert_eq!(save_one(backend, &a, &player, (1, 1), json!({"n": 1})).await, "applied");
        release(backend, &a, &player, 1).await;
        // The epoch is still the current one until somebody takes the player.
        assert_eq!(save_one(backend, &a, &player, (1, 2), json!({"n": 2})).await, "applied");
        let loaded = load(backend, &b, &player).await;
        assert_eq!((&loaded["epoch"], &loaded["sequence"], &loaded["conflicts"]), (&json!(2), &json!(0), &json!([])));
        assert_eq!(loaded["documents"][0]["value"], json!({"n": 2}));
        let reply = ask(backend, &a, &player).await;
        assert_eq!((&reply["players"], &reply["held"][0]["server_id"]), (&json!([]), &json!(b)));
        // The holder itself is given its player again, and a new epoch once it has let go.
        assert_eq!(load(backend, &b, &player).await["epoch"], 2);
        release(backend, &b, &player, 2).await;
        assert_eq!(load(backend, &b, &player).await["epoch"], 3);
    }

    async fn the_holder_is_told_who_is_wanted(backend) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        assert_eq!(beat(backend, &a, 1).await["wanted"], json!([]));
        let held = &ask(backend, &b, &player).await["held"][0];
        assert_eq!((&held["player_id"], &held["server_id"]), (&json!(player), &json!(a)));
        assert_eq!(beat(backend, &a, 2).await["wanted"], json!([player]));
        assert_eq!(beat(backend, &b, 1).await["wanted"], json!([]));
        let body = json!({"server_id": a, "items": [item(&player, backend.epoch(&player, 1), 1, &json!({}))]});
        assert_eq!(backend.serve("/v1/players/save", &body).await.expect(200)["wanted"], json!([player]));
        release(backend, &a, &player, 1).await;
        assert_eq!(beat(backend, &a, 3).await["wanted"], json!([]));
        assert_eq!(load(backend, &b, &player).await["epoch"], 2);
        assert_eq!(beat(backend, &b, 2).await["wanted"], json!([]));
    }

    async fn who_has_given_up_waiting_wants_nobody(backend) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        ask(backend, &b, &player).await;
        let mut sequence = 1;
        while beat(backend, &a, sequence).await["wanted"] != json!([]) {
            sequence += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(sequence > 1, "wanted at first");
        assert_eq!(ask(backend, &b, &player).await["held"][0]["server_id"], a.as_str());
    }

    async fn a_lease_that_ran_out_is_taken_over(backend, |config| config.lease_seconds = 1) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        assert_eq!(save_one(backend, &a, &player, (1, 1), json!({"at": "a"})).await, "applied");
        let loaded = wait_for(backend, &b, &player).await;
        assert_eq!((&loaded["epoch"], &loaded["documents"][0]["value"]), (&json!(2), &json!({"at": "a"})));
        assert_eq!(save_one(backend, &a, &player, (1, 2), json!({"at": "a, late"})).await, "conflicted");
        let metrics = text(&backend.get("/metrics", "").await.expect(200));
        let count = metrics.lines().find_map(|line| line.strip_prefix("backend_leases_taken_over_total "));
        assert!(count.is_some_and(|count| count != "0"), "{metrics}");
    }

    async fn a_lease_that_nobody_took_is_still_the_holders(backend, |config| config.lease_seconds = 1) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let a = backend.server("A", json!({"instance_id": "a"})).await;
        load(backend, &a, &player).await;
        // Until the registry has forgotten the server, whose lease is as old.
        while backend.get("/v1/rooms", &backend.key).await.expect(200)["rooms"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(save_one(backend, &a, &player, (1, 1), json!({})).await, "applied");
        assert_eq!(backend.server("A", json!({"instance_id": "a"})).await, a, "it registers again");
        assert_eq!(load(backend, &a, &player).await["epoch"], 1);
    }

    async fn signs_of_life_renew_leases(backend) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        renewed(backend, &b, &player, |attempt| { let a = &a; async move {
            beat(backend, a, attempt.unsigned_abs()).await;
        }}).await;
        renewed(backend, &b, &player, |_| { let (a, player) = (&a, &player); async move {
            load(backend, a, player).await;
        }}).await;
        renewed(backend, &b, &player, |attempt| { let (a, player) = (&a, &player); async move {
            assert_eq!(save_one(backend, a, player, (1, attempt), json!({})).await, "applied");
        }}).await;
    }

    async fn a_late_release_ends_no_later_lease(backend) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        release(backend, &a, &player, 1).await;
        assert_eq!(load(backend, &a, &player).await["epoch"], 2);
        release(backend, &a, &player, 1).await;
        release(backend, &b, &player, 2).await;
        release(backend, &b, "nobody", 1).await;
        assert_eq!(ask(backend, &b, &player).await["held"][0]["server_id"], a.as_str());
        let body = json!({"server_id": "nobody"});
        backend.serve("/v1/players/release", &body).await.refused(404, "server_unknown");
    }

    async fn all_players_of_a_dead_server_are_released_by_its_successor(backend) {
        let (one, a, b) = three(backend).await;
        let two = text(&backend.guest("Bea").await["player_id"]);
        let third = text(&backend.guest("Cleo").await["player_id"]);
        load(backend, &a, &one).await;
        load(backend, &a, &two).await;
        let c = backend.server("C", json!({})).await;
        load(backend, &c, &third).await;
        // What the dead one could not send goes out under its epoch, from another process.
        assert_eq!(save_one(backend, &b, &one, (1, 1), json!({"from": "the journal"})).await, "applied");
        assert_eq!(save_one(backend, &b, &one, (1, 1), json!({"from": "the journal"})).await, "replayed");
        backend.serve("/v1/players/release", &json!({"server_id": a})).await.expect(200);
        let loaded = load(backend, &b, &one).await;
        assert_eq!((&loaded["epoch"], &loaded["documents"][0]["value"]), (&json!(2), &json!({"from": "the journal"})));
        assert_eq!(load(backend, &b, &two).await["epoch"], 2);
        assert_eq!(ask(backend, &b, &third).await["held"][0]["server_id"], c.as_str());
    }

    async fn leaving_the_list_ends_all_leases(backend) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        let (key, c) = (&backend.key, backend.server("C", json!({})).await);
        let other = text(&backend.guest("Bea").await["player_id"]);
        load(backend, &c, &other).await;
        backend.send(backend.request(Method::DELETE, &format!("/v1/servers/{a}")).bearer_auth(key)).await.expect(204);
        // What was under way still counts, until somebody takes the player.
        assert_eq!(save_one(backend, &a, &player, (1, 1), json!({"last": true})).await, "applied");
        assert_eq!(load(backend, &b, &player).await["documents"][0]["value"], json!({"last": true}));
        assert_eq!(ask(backend, &b, &other).await["held"][0]["server_id"], json!(c), "another server's stay");
    }

    async fn a_load_that_comes_after_its_server_has_left_gives_nothing(backend) {
        let (player, a, b) = three(backend).await;
        let late = json!({"server_id": a, "player_ids": [player]});
        backend.send(backend.request(Method::DELETE, &format!("/v1/servers/{a}")).bearer_auth(&backend.key)).await.expect(204);
        backend.serve("/v1/players/load", &late).await.refused(404, "server_unknown");
        backend.serve("/v1/worlds/w/open", &json!({"server_id": a, "opening": 1})).await.refused(404, "server_unknown");
        assert_eq!(load(backend, &b, &player).await["epoch"], 1);
        // Nor does one of a server that was forgotten, until it is listed again.
        backend.execute("UPDATE servers SET lease_until = 1").await;
        let two = text(&backend.guest("Bea").await["player_id"]);
        let load_two = json!({"server_id": b, "player_ids": [two]});
        backend.serve("/v1/players/load", &load_two).await.refused(404, "server_unknown");
        assert_eq!(save_one(backend, &b, &player, (1, 1), json!({})).await, "applied", "what it holds, it saves");
    }

    async fn loads_and_the_leaving_of_their_server_leave_no_lease(backend) {
        let b = backend.server("B", json!({})).await;
        for _ in 0..10 {
            let player = text(&backend.guest("Ada").await["player_id"]);
            let a = backend.server("A", json!({})).await;
            let body = json!({"server_id": a, "player_ids": [player]});
            let leave = backend.send(backend.request(Method::DELETE, &format!("/v1/servers/{a}")).bearer_auth(&backend.key));
            let (one, left, two) = tokio::join!(
                backend.serve("/v1/players/load", &body), leave, backend.serve("/v1/players/load", &body));
            left.expect(204);
            for load in [one, two] {
                assert!(load.status == 200 || load.code() == "server_unknown", "{load:?}");
            }
            assert_eq!(ask(backend, &b, &player).await["held"], json!([]));
        }
    }

    async fn a_registration_that_is_repeated_after_its_server_has_left_lists_it_no_more(backend) {
        let body = json!({"instance_id": "one", "name": "A", "address": "127.0.0.1", "port": 7777, "max_players": 2});
        let register = |key: &str| backend.send(backend.request(Method::POST, "/v1/servers").bearer_auth(&backend.key)
            .header("idempotency-key", key).json(&body));
        let (first, second) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        let listed = async || backend.get("/v1/rooms", &backend.key).await.expect(200)["rooms"].as_array().expect("list").len();
        let id = text(&register(&first).await.expect(201)["server_id"]);
        assert_eq!((register(&first).await.expect(201)["server_id"].clone(), listed().await), (json!(id), 1));
        backend.send(backend.request(Method::DELETE, &format!("/v1/servers/{id}")).bearer_auth(&backend.key)).await.expect(204);
        assert_eq!((register(&first).await.expect(201)["server_id"].clone(), listed().await), (json!(id), 0));
        assert_eq!((register(&second).await.expect(201)["server_id"].clone(), listed().await), (json!(id), 1), "it is back");
    }

    async fn a_clock_that_was_set_back_lengthens_no_lease(backend) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        backend.serve("/v1/worlds/w/open", &json!({"server_id": a, "opening": 1})).await.expect(200);
        // An hour back: what was written before lies an hour ahead.
        for table in [
            "UPDATE player_leases SET lease_until = lease_until + 3600000",
            "UPDATE servers SET lease_until = lease_until + 3600000",
            "UPDATE worlds SET lease_until = lease_until + 3600000",
        ] {
            backend.execute(table).await;
        }
        assert!(lasts(backend, &b, &player).await <= 60_000);
        backend.sweep().await;
        backend.execute("UPDATE servers SET lease_until = lease_until - 60000").await;
        backend.execute("UPDATE player_leases SET lease_until = lease_until - 60000").await;
        backend.execute("UPDATE worlds SET lease_until = lease_until - 60000").await;
        assert_eq!(backend.get("/v1/rooms", &backend.key).await.expect(200)["rooms"], json!([]));
        let c = backend.server("C", json!({})).await;
        assert_eq!(load(backend, &c, &player).await["epoch"], 2);
        backend.serve("/v1/worlds/w/open", &json!({"server_id": c, "opening": 1})).await.expect(200);
    }

    /// The sweep, once a minute, has not come yet.
    async fn whoever_waits_shortens_a_lease_that_is_ahead_of_the_clock(backend) {
        let (player, a, b) = three(backend).await;
        load(backend, &a, &player).await;
        backend.serve("/v1/worlds/w/open", &json!({"server_id": a, "opening": 1})).await.expect(200);
        backend.execute("UPDATE player_leases SET lease_until = lease_until + 3600000").await;
        backend.execute("UPDATE worlds SET lease_until = lease_until + 3600000").await;
        assert!(lasts(backend, &b, &player).await <= 60_000);
        let open = async || backend.serve("/v1/worlds/w/open", &json!({"server_id": b, "opening": 1})).await;
        open().await.refused(409, "world_held");
        // A minute later.
        backend.execute("UPDATE player_leases SET lease_until = lease_until - 60000").await;
        backend.execute("UPDATE worlds SET lease_until = lease_until - 60000").await;
        assert_eq!(load(backend, &b, &player).await["epoch"], 2);
        open().await.expect(200);
    }

    async fn a_clock_that_was_set_back_keeps_nothing_else_alive(backend) {
        let guest = backend.guest("Ada").await;
        let (player, a, b) = (text(&guest["player_id"]), backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        load(backend, &a, &player).await;
        ask(backend, &b, &player).await;
        backend.sweep().await;
        for moved in [
            "UPDATE clock_seen SET seen_at = seen_at + 3600000",
            "UPDATE player_leases SET wanted_at = wanted_at + 3600000",
            "UPDATE refresh_tokens SET expires_at = expires_at + 3600000, used_at = expires_at",
            "INSERT INTO idempotency_keys (key_hash, request_hash, player_id, created_at) SELECT 'k', 'r', 'p', seen_at FROM clock_seen",
            "INSERT INTO seats (seat_id, server_id, expires_at) SELECT server_id, server_id, seen_at + 70000 FROM servers CROSS JOIN clock_seen",
            "INSERT INTO matchmaking_tickets (ticket_id, scope, matchmaker, status, creator, party_size, players, created_at, expires_at, matched_at, ended_at) \
             SELECT 't', 's', 'm', 'queued', 'c', 1, '[]', seen_at, seen_at + 120000, seen_at, seen_at FROM clock_seen",
            "INSERT INTO matchmaking_matches (match_id, scope, matchmaker, status, details, tickets, seats, deadline) \
             SELECT 'm', 's', 'm', 'placed', '{}', 1, 1, seen_at + 60000 FROM clock_seen",
            "INSERT INTO used_tickets (jti, idempotency_key, expires_at) SELECT 'j', 'k', seen_at + 60000 FROM clock_seen",
        ] {
            backend.execute(moved).await;
        }
        backend.sweep().await;
        for ahead in [
            "SELECT COUNT(*) FROM player_leases WHERE wanted_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM refresh_tokens WHERE used_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM refresh_tokens WHERE expires_at > (SELECT seen_at FROM clock_seen) + 2592000000",
            "SELECT COUNT(*) FROM idempotency_keys WHERE created_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM seats WHERE expires_at > (SELECT seen_at FROM clock_seen) + 70000",
            "SELECT COUNT(*) FROM matchmaking_tickets WHERE expires_at > (SELECT seen_at FROM clock_seen) + 120000",
            "SELECT COUNT(*) FROM matchmaking_tickets WHERE created_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM matchmaking_tickets WHERE matched_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM matchmaking_tickets WHERE ended_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM matchmaking_matches WHERE deadline > (SELECT seen_at FROM clock_seen) + 60000",
        ] {
            assert_eq!(backend.count(ahead).await, 0, "{ahead}");
        }
        for rows in ["SELECT COUNT(*) FROM seats", "SELECT COUNT(*) FROM matchmaking_tickets", "SELECT COUNT(*) FROM matchmaking_matches"] {
            assert!(backend.count(rows).await > 0, "{rows}: shortened, not removed");
        }
        // A ticket of before can be used once the clock is there again, and only once.
        let used = "SELECT COUNT(*) FROM used_tickets WHERE expires_at > (SELECT seen_at FROM clock_seen) + 3000000";
        assert_eq!(backend.count(used).await, 1);
    }

    async fn of_eight_servers_one_is_given_the_player(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let mut servers = Vec::new();
        for _ in 0..8 {
            servers.push(backend.server("Pond", json!({})).await);
        }
        for epoch in 1..=3 {
            let replies = at_once(servers.iter().map(|server| ask(backend, server, &player))).await;
            let given: Vec<usize> = (0..8).filter(|&index| replies[index]["players"] != json!([])).collect();
            assert_eq!(given.len(), 1, "{replies:?}");
            assert_eq!(replies[given[0]]["players"][0]["epoch"], epoch);
            let holder = &servers[given[0]];
            for (index, reply) in replies.iter().enumerate() {
                assert!(index == given[0] || reply["held"][0]["server_id"] == json!(holder), "{reply}");
            }
            release(backend, holder, &player, epoch).await;
        }
    }

    async fn players_asked_for_in_any_order_are_given_in_it(backend) {
        let mut players = Vec::new();
        for name in ["1", "2", "3", "4"] {
            players.push(text(&backend.guest(name).await["player_id"]));
        }
        let reversed: Vec<&String> = players.iter().rev().collect();
        let mut asking = Vec::new();
        for index in 0..6 {
            let server = backend.server("Pond", json!({})).await;
            let order = if index % 2 == 0 { json!(players) } else { json!(reversed) };
            asking.push(async move {
                let body = json!({"server_id": server, "player_ids": order});
                let reply = backend.serve("/v1/players/load", &body).await.expect(200);
                let ids = |list: &str| reply[list].as_array().expect("list").iter().map(|one| one["player_id"].clone()).collect::<Vec<_>>();
                assert!(ids("players").is_empty() || json!(ids("players")) == order, "{reply}");
                assert!(ids("held").is_empty() || json!(ids("held")) == order, "{reply}");
                ids("players").len()
            });
        }
        assert_eq!(at_once(asking.into_iter()).await.iter().sum::<usize>(), 4);
    }

    async fn beats_saves_and_loads_of_the_same_players_do_not_wait_for_each_other(backend) {
        let a = backend.server("A", json!({})).await;
        let mut players = Vec::new();
        for name in 0..10 {
            players.push(text(&backend.guest(&format!("P{name}")).await["player_id"]));
        }
        let path = format!("/v1/servers/{a}/heartbeat");
        let loaded = backend.serve("/v1/players/load", &json!({"server_id": a, "player_ids": players})).await.expect(200);
        for player in loaded["players"].as_array().expect("list") {
            backend.ordinal(&text(&player["player_id"]), player["epoch"].as_i64().expect("number"));
        }
        let mut requests = Vec::new();
        for round in 1..=8 {
            players.reverse();
            let items: Vec<Value> = players.iter().map(|player| item(player, backend.epoch(player, 1), round, &json!({}))).collect();
            requests.push(("/v1/players/load", json!({"server_id": a, "player_ids": players})));
            requests.push(("/v1/players/save", json!({"server_id": a, "items": items})));
            requests.push((path.as_str(), json!({"sequence": round, "players": 0})));
        }
        for answer in at_once(requests.iter().map(|(path, body)| backend.serve(path, body))).await {
            answer.expect(200);
        }
    }

    async fn a_batch_sent_many_times_at_once_is_applied_once(backend) {
        let (one, a, _) = three(backend).await;
        let two = text(&backend.guest("Bea").await["player_id"]);
        load(backend, &a, &one).await;
        load(backend, &a, &two).await;
        let batch = vec![item(&one, 1, 1, &json!({"n": 1})), item(&two, 1, 1, &json!({"n": 2}))];
        let answers = at_once((0..8).map(|_| save(backend, &a, batch.clone()))).await;
        for index in 0..2 {
            let count = |word: &str| answers.iter().filter(|results| results[index] == (word.to_owned(), 1)).count();
            assert_eq!((count("applied"), count("replayed")), (1, 7), "{answers:?}");
        }
    }

    async fn what_is_applied_is_what_the_next_holder_reads(backend) {
        let (player, a, b) = three(backend).await;
        let (mut from, mut to) = (&a, &b);
        load(backend, from, &player).await;
        for epoch in 1..=50 {
            let value = json!({"epoch": epoch});
            let handover = async {
                release(backend, from, &player, epoch).await;
                load(backend, to, &player).await
            };
            let (outcome, loaded) = tokio::join!(save_one(backend, from, &player, (epoch, 1), value.clone()), handover);
            let read = loaded["documents"][0]["value"] == value;
            assert_eq!(outcome, if read { "applied" } else { "conflicted" });
            std::mem::swap(&mut from, &mut to);
        }
    }
}

/// Servers that died while the backend was there were listed again for one lease, and kept what they held.
async fn only_what_had_a_lease_at_the_stop_gets_another(backend: Backend) {
    let (dead, player) =
        (backend.server("Dead", json!({})).await, text(&backend.guest("Ada").await["player_id"]));
    load(&backend, &dead, &player).await;
    backend.serve("/v1/worlds/w/open", &json!({"server_id": dead, "opening": 1})).await.expect(200);
    for ended in [
        "UPDATE servers SET lease_until = lease_until - 60000",
        "UPDATE player_leases SET lease_until = lease_until - 60000",
        "UPDATE worlds SET lease_until = lease_until - 60000",
    ] {
        backend.execute(ended).await;
    }
    let (living, other) =
        (backend.server("Living", json!({})).await, text(&backend.guest("Bea").await["player_id"]));
    load(&backend, &living, &other).await;
    let backend = backend.restart_after_leases().await;
    let rooms = backend.get("/v1/rooms", &backend.key).await.expect(200)["rooms"].clone();
    let names: Vec<&Value> = rooms.as_array().expect("a list").iter().map(|room| &room["name"]).collect();
    assert_eq!(names, ["Living"]);
    let new = backend.server("New", json!({})).await;
    assert_eq!(load(&backend, &new, &player).await["epoch"], 2, "nobody holds what the dead one held");
    backend.serve("/v1/worlds/w/open", &json!({"server_id": new, "opening": 1})).await.expect(200);
    assert_eq!(ask(&backend, &new, &other).await["held"][0]["server_id"], json!(living));
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_had_a_lease_at_the_stop_gets_another_on_sqlite() {
    only_what_had_a_lease_at_the_stop_gets_another(Backend::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_had_a_lease_at_the_stop_gets_another_on_postgres() {
    only_what_had_a_lease_at_the_stop_gets_another(Backend::on_postgres_with(|_| {}).await).await;
}
