//! Followed room lists: server-sent events, resumed after a break, at any replica.

use std::time::Duration;

use backend_server::database::Database;
use backend_server::server_keys::{self, NewKey};
use serde_json::{Value, json};

use crate::harness::{Backend, at_once, on_both_databases, text};
use crate::room_follower::{Follower, listed, open, refusal};

async fn beat(backend: &Backend, room_id: &str, sequence: u64, change: Value) {
    let mut body = json!({"sequence": sequence, "players": 0});
    for (member, value) in change.as_object().into_iter().flatten() {
        body[member] = value.clone();
    }
    backend.serve(&format!("/v1/servers/{room_id}/heartbeat"), &body).await.expect(200);
}

async fn end(backend: &Backend, room_id: &str) {
    let request = backend.request(reqwest::Method::DELETE, &format!("/v1/servers/{room_id}"));
    backend.send(request.bearer_auth(&backend.key)).await.expect(204);
}

on_both_databases! {
    async fn a_follower_sees_what_comes_changes_and_goes(backend) {
        let pond = backend.server("Pond", json!({"map": "lily"})).await;
        let mut follower = Follower::new(backend, "").await;
        assert_eq!((follower.names(), &*follower.events), (vec!["Pond".to_owned()], &["reset".to_owned()][..]));
        assert_eq!(follower.rooms, listed(backend, "").await);

        let reed = backend.server("Reed", json!({"map": "lily"})).await;
        follower.until_names(&["Pond", "Reed"]).await;
        beat(backend, &pond, 1, json!({"players": 1, "attributes": {"round": 2}, "map": "moss"})).await;
        follower.until("changed", |rooms| rooms[&pond]["map"] == "moss").await;
        assert_eq!(follower.rooms, listed(backend, "").await);
        end(backend, &reed).await;
        follower.until_names(&["Pond"]).await;
        // Draining rooms are not on this list; then it goes on.
        beat(backend, &pond, 2, json!({"status": "draining"})).await;
        follower.until_names(&[]).await;
        beat(backend, &pond, 3, json!({"status": "ready"})).await;
        follower.until_names(&["Pond"]).await;
        assert_eq!(follower.rooms, listed(backend, "").await);
    }

    async fn a_room_that_leaves_the_filter_is_removed(backend) {
        let pond = backend.server("Pond", json!({"map": "lily", "attributes": {"round": 1}})).await;
        backend.server("Reed", json!({"map": "moss"})).await;
        let query = "?map=lily&attributes=%5B%7B%22name%22%3A%22round%22%2C%22op%22%3A%22%3C%22%2C%22value%22%3A3%7D%5D";
        let mut follower = Follower::new(backend, query).await;
        assert_eq!(follower.names(), ["Pond"]);
        beat(backend, &pond, 1, json!({"attributes": {"round": 2}})).await;
        follower.until("round 2", |rooms| rooms[&pond]["attributes"]["round"] == 2).await;
        beat(backend, &pond, 2, json!({"attributes": {"round": 3}})).await;
        follower.until_names(&[]).await;
        beat(backend, &pond, 3, json!({"attributes": {"round": 0}})).await;
        follower.until_names(&["Pond"]).await;
        assert!(!follower.raw.contains("Reed"));
    }

    async fn heartbeats_without_news_make_no_event(backend) {
        let pond = backend.server("Pond", json!({"map": "lily", "tags": ["calm"], "password": "frog", "attributes": {"a": 1}})).await;
        let mut follower = Follower::new(backend, "").await;
        let same = json!({"map": "lily", "tags": ["calm"], "password": "frog", "attributes": {"a": 1}, "max_players": 2, "visibility": "public"});
        for sequence in 1..4 {
            beat(backend, &pond, sequence, same.clone()).await;
        }
        beat(backend, &pond, 4, json!({"players": 1})).await;
        follower.until("a player", |rooms| rooms[&pond]["players"] == 1).await;
        assert_eq!(follower.events, ["reset", "change"]);
    }

    async fn a_follower_goes_on_after_a_break(backend) {
        let pond = backend.server("Pond", json!({})).await;
        let (moss, fern) = (backend.server("Moss", json!({})).await, backend.server("Fern", json!({})).await);
        let mut away = Follower::new(backend, "").await.resume(backend, "").await;
        // Nothing has changed. A change may come twice as long as a transaction of any database of the PostgreSQL server is open.
        while !away.events.is_empty() {
            assert_eq!(away.events, ["change"]);
            away = away.resume(backend, "").await;
        }
        let backlog = away.last_event_id.clone();

        beat(backend, &pond, 1, json!({"players": 1})).await;
        end(backend, &moss).await;
        beat(backend, &fern, 1, json!({"visibility": "unlisted"})).await;
        backend.server("Reed", json!({})).await;
        let mut follower = away.resume(backend, "").await;
        follower.until_names(&["Pond", "Reed"]).await;
        follower.until("a player", |rooms| rooms[&pond]["players"] == 1).await;
        assert_eq!(follower.rooms, listed(backend, "").await);
        assert!(!follower.raw.contains("reset"), "{}", follower.raw);
        // The same once more, from further back: what was sent already does no harm.
        let mut follower = follower.at(&backlog).resume(backend, "").await;
        follower.until_names(&["Pond", "Reed"]).await;
        assert_eq!(follower.events, ["change"]);
        assert_eq!(follower.rooms, listed(backend, "").await);
    }

    async fn a_follower_goes_on_at_another_replica(backend) {
        let replica = backend.beside(|_| {}).await;
        let pond = backend.server("Pond", json!({})).await;
        let mut follower = Follower::new(backend, "").await;
        let path = format!("/v1/servers/{pond}/heartbeat");
        replica.post(&path, &backend.key, &json!({"sequence": 1, "players": 1})).await.expect(200);
        follower.until("changed through the other replica", |rooms| rooms[&pond]["players"] == 1).await;
        beat(backend, &pond, 2, json!({"players": 2})).await;
        let mut follower = follower.resume(&replica, "").await;
        follower.until("changed meanwhile", |rooms| rooms[&pond]["players"] == 2).await;
        assert!(!follower.events.iter().any(|event| event == "reset"), "{:?}", follower.events);
        end(backend, &pond).await;
        follower.until_names(&[]).await;
        drop(follower);
        replica.stop().await;
    }

    async fn rooms_that_are_not_public_are_never_named(backend) {
        let hidden = [
            backend.server("Unlisted", json!({"visibility": "unlisted", "password": "frogspawn"})).await,
            backend.server("Private", json!({"visibility": "private"})).await,
        ];
        let secret = backend.server("Secret", json!({"password": "frogspawn"})).await;
        let mut follower = Follower::new(backend, "").await;
        let id = follower.last_event_id.clone();
        for (index, room_id) in hidden.iter().enumerate() {
            beat(backend, room_id, 1, json!({"players": 1})).await;
            let other = if index == 0 { "private" } else { "unlisted" };
            beat(backend, room_id, 2, json!({"visibility": other})).await;
            end(backend, room_id).await;
        }
        beat(backend, &secret, 1, json!({"password": "tadpole"})).await;
        beat(backend, &secret, 2, json!({"visibility": "private"})).await;
        beat(backend, &secret, 3, json!({"map": "den"})).await;
        follower.until_names(&[]).await;
        let resumed = Follower::new(backend, "").await.at(&id).resume(backend, "").await;
        for text in [&follower.raw, &resumed.raw] {
            for word in [&hidden[0], &hidden[1], "Unlisted", "Private", "frogspawn", "tadpole", "den", "password_hash", "argon2"] {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
        assert!(resumed.raw.contains(&secret), "it was public before");
    }

    async fn a_room_whose_lease_ends_is_removed(backend, |config| { config.lease_seconds = 2; config.heartbeat_seconds = 1; }) {
        let pond = backend.server("Pond", json!({})).await;
        let mut follower = Follower::new(backend, "").await;
        assert_eq!(follower.names(), ["Pond"]);
        let id = follower.last_event_id.clone();
        follower.until_names(&[]).await;
        // It is a change like any other, also for who was away.
        let away = Follower::new(backend, "").await.at(&id).resume(backend, "").await;
        assert!(away.raw.contains(&pond) && away.events == ["change"], "{}", away.raw);
    }

    async fn seats_change_the_rooms(backend) {
        let pond = backend.server("Pond", json!({"max_players": 2})).await;
        let reed = backend.server("Reed", json!({"max_players": 2})).await;
        let token = text(&backend.guest("Ada").await["access_token"]);
        let mut all = Follower::new(backend, "").await;
        let mut free = Follower::new(backend, "?not_full=true").await;
        let ticket = |room: &str, seats: u32| {
            let (path, token) = (format!("/v1/rooms/{room}/ticket"), token.clone());
            async move { backend.post(&path, &token, &json!({"seats": seats})).await.expect(200) }
        };
        ticket(&pond, 2).await;
        all.until("reserved", |rooms| rooms[&pond]["reserved"] == 2).await;
        free.until_names(&["Reed"]).await;
        // The seats of the ticket before are given back.
        ticket(&reed, 1).await;
        all.until("given back", |rooms| rooms[&pond]["reserved"] == 0 && rooms[&reed]["reserved"] == 1).await;
        free.until_names(&["Pond", "Reed"]).await;
        backend.execute("UPDATE seats SET expires_at = 1").await;
        all.until("expired", |rooms| rooms[&reed]["reserved"] == 0).await;
        assert_eq!(all.rooms, listed(backend, "").await);
    }

    async fn an_id_that_is_none_begins_with_the_whole_list(backend) {
        let pond = backend.server("Pond", json!({})).await;
        let good = Follower::new(backend, "").await.last_event_id;
        let parts: Vec<&str> = good.split('.').collect();
        let [tag, number, seconds] = parts[..] else { panic!("{good}") };
        let old = seconds.parse::<i64>().expect("seconds") - 3_600;
        let long = "9".repeat(4_000);
        for id in [
            "", "1", "x", "..", "-1.-1.-1", &long, &format!("{tag}.{}.{seconds}", i64::MAX), &format!("{tag}.{long}.{seconds}"),
            &format!("{tag}.-{number}.{seconds}"), &format!("{tag}.+{number}.{seconds}"), &format!("{tag}.{number}.{old}"),
            &format!("{tag}.{number}.{}", i64::MAX), &format!("00000000.{number}.{seconds}"), &format!("{good}.1"), &format!("{tag}.{number}"),
            "'; DROP TABLE room_changes; --",
        ] {
            let follower = Follower::new(backend, "").await.at(id).resume(backend, "").await;
            assert_eq!(follower.events, ["reset"], "{id}");
            assert!(follower.rooms.contains_key(&pond));
        }
    }

    async fn what_cannot_be_followed_is_refused_by_its_field(backend) {
        for (query, field) in [
            ("?cursor=x", "cursor"), ("?limit=5", "limit"), ("?colour=red", "colour"), ("?fields=password_hash", "fields"),
            ("?attributes=%5B", "attributes"), ("?map=", "map"),
        ] {
            let answer = refusal(backend, query).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{query}");
        }
        backend.get("/v1/rooms/events", "nobody").await.refused(401, "token_invalid");
    }

    async fn only_the_selected_fields_are_sent(backend) {
        let pond = backend.server("Pond", json!({"map": "lily"})).await;
        let mut follower = Follower::new(backend, "?fields=name,players").await;
        let mut fields: Vec<&str> = follower.rooms[&pond].as_object().expect("a room").keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["name", "players", "room_id"]);
        // A change that the follower does not see is none.
        beat(backend, &pond, 1, json!({"map": "moss"})).await;
        beat(backend, &pond, 2, json!({"players": 1})).await;
        follower.until("a player", |rooms| rooms[&pond]["players"] == 1).await;
        assert_eq!(follower.events, ["reset", "change"]);
    }

    async fn followers_are_bounded(backend, |config| config.max_room_followers = 2) {
        let first = Follower::new(backend, "").await;
        let _second = Follower::new(backend, "?map=x").await;
        let answer = refusal(backend, "").await;
        answer.refused(503, "unavailable");
        assert_eq!(answer.headers["retry-after"], "30");
        drop(first);
        // Its place is given back once its connection is seen to have ended.
        while open(backend, "", &backend.key, None).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn a_player_does_not_open_streams_without_end(backend) {
        let token = text(&backend.guest("Ada").await["access_token"]);
        let open = |query: String, token: String| async move { open(backend, &query, &token, None).await };
        let mut opened = 0;
        let refused = loop {
            let response = open(format!("?map=m{opened}"), token.clone()).await;
            if response.status() != 200 {
                break response;
            }
            opened += 1;
            assert!(opened < 100, "no limit");
        };
        assert!(opened >= 20, "{opened}");
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (429, true));
        let other = text(&backend.guest("Bea").await["access_token"]);
        assert_eq!(open(String::new(), other).await.status(), 200, "another player");
    }

    async fn a_stream_ends_with_its_access_token(backend, |config| config.access_token_seconds = 2) {
        let token = text(&backend.guest("Ada").await["access_token"]);
        let mut response = open(backend, "", &token, None).await;
        assert_eq!(response.status(), 200);
        while response.chunk().await.expect("ends well").is_some() {}
        open(backend, "", &token, None).await.error_for_status().expect_err("the token has expired");
    }

    async fn a_stream_ends_when_its_follower_may_not_read_any_more(backend) {
        let (ada, bea, cleo) = (backend.guest("Ada").await, backend.guest("Bea").await, backend.guest("Cleo").await);
        let database = Database::open(backend.database()).await.expect("opens");
        let new = NewKey { game: "default".into(), environment: "live".into(), label: "revoked".into() };
        let made = server_keys::create(&database, &new).await.expect("made");
        let mut streams = Vec::new();
        for token in [text(&ada["access_token"]), text(&bea["access_token"]), made.key.clone(), text(&cleo["access_token"]), backend.key.clone()] {
            let response = open(backend, "", &token, None).await;
            assert_eq!(response.status(), 200);
            streams.push(response);
        }
        backend.post("/v1/auth/logout-everywhere", "", &json!({"refresh_token": ada["refresh_token"]})).await.expect(204);
        backend.execute_with("UPDATE players SET banned_at = 1 WHERE player_id = $1", &text(&bea["player_id"])).await;
        backend_server::revoke_server_key(&database, &made.key_id).await.expect("revoked");
        database.close().await;
        let ends = streams.into_iter().map(|mut stream| async move {
            let end = async { while stream.chunk().await.expect("ends well").is_some() {} };
            tokio::time::timeout(Duration::from_secs(20), end).await.is_ok()
        });
        assert_eq!(at_once(ends).await, [true, true, true, false, false]);
    }
}

/// A small generator whose sequence is the same in every run.
fn generator(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        // Knuth's MMIX constants; the high bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    }
}

on_both_databases! {
    /// Servers change at random, through two replicas, while followers of several queries are cut off at random and go on at either
    /// one. Each has the list in the end, and none is sent a whole one again.
    async fn random_changes_and_breaks_leave_no_gap(backend, |config| config.lease_seconds = 600) {
        const QUERIES: [&str; 4] = [
            "", "?map=lily", "?not_full=true&search=a",
            "?attributes=%5B%7B%22name%22%3A%22n%22%2C%22op%22%3A%22%3E%22%2C%22value%22%3A1%7D%5D",
        ];
        // On a slow machine, no lease ends meanwhile.
        let replica = backend.beside(|config| config.lease_seconds = 600).await;
        let replicas = [backend, &replica];
        let mut random = generator(0x5eed);
        let mut followers = Vec::new();
        for query in QUERIES {
            followers.push((query, Follower::new(replicas[random(2)], query).await));
        }
        let mut servers: Vec<(String, u64)> = Vec::new();
        for _ in 0..150 {
            let at = replicas[random(2)];
            let chosen = (!servers.is_empty()).then(|| random(servers.len()));
            match (random(10), chosen) {
                (0 | 1, _) | (_, None) => {
                    let map = ["lily", "moss"][random(2)];
                    let name = ["Ann", "Bea", "Cid"][random(3)];
                    servers.push((backend.server(name, json!({"map": map})).await, 0));
                }
                (2, Some(chosen)) => {
                    let (id, _) = servers.swap_remove(chosen);
                    let request = at.request(reqwest::Method::DELETE, &format!("/v1/servers/{id}"));
                    at.send(request.bearer_auth(&backend.key)).await.expect(204);
                }
                (3 | 4, _) => {
                    let (query, follower) = followers.swap_remove(random(followers.len()));
                    let follower = follower.resume(at, query).await;
                    assert!(!follower.raw.contains("event: reset"), "{}", follower.raw);
                    followers.push((query, follower));
                }
                (_, Some(chosen)) => {
                    let (id, sequence) = &mut servers[chosen];
                    *sequence += 1;
                    let visibility = ["public", "public", "public", "unlisted", "private"][random(5)];
                    let (map, status) = (["lily", "moss"][random(2)], ["ready", "ready", "draining", "unhealthy"][random(4)]);
                    let beat = json!({"sequence": sequence, "players": random(3), "map": map, "status": status,
                        "visibility": visibility, "attributes": {"n": random(4)}});
                    at.post(&format!("/v1/servers/{id}/heartbeat"), &backend.key, &beat).await.expect(200);
                }
            }
        }
        let last = backend.count("SELECT MAX(change) FROM room_changes").await;
        for (query, mut follower) in followers {
            follower.until_list(&listed(backend, query).await, last).await;
        }
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_the_backend_stops() {
    let backend = Backend::on_sqlite().await;
    let mut follower = Follower::new(&backend, "").await;
    let stopped = tokio::spawn(backend.stop());
    while follower.step().await.is_some() {}
    stopped.await.expect("stopped");
}
