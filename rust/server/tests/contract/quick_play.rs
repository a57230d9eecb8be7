//! Quick play: a seat wherever there is one, and no more rooms than it takes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Backend, at_once, on_both_databases, text};
use crate::rooms_on_demand::{SERVER, until_ready, with_servers};

/// Players who come at once. They fill twelve rooms and a half.
const CROWD: usize = 1_000;

fn servers(config: &mut backend_server::Config) {
    with_servers(config, SERVER, &json!({}));
}

/// As many as there are rooms for, also on a machine that is busy.
fn for_a_crowd(config: &mut backend_server::Config) {
    config.new_accounts_per_minute = 0;
    config.logins_per_minute = 0;
    with_servers(
        config,
        SERVER,
        &json!({"max_players": 80, "start_timeout_seconds": 120, "max_servers": 40}),
    );
}

async fn player(backend: &Backend) -> String {
    text(&backend.guest("Ada").await["access_token"])
}

async fn play(backend: &Backend, token: &str, request_id: &str, change: Value) -> Answer {
    let mut body = json!({"request_id": request_id, "room": {}});
    for (member, value) in change.as_object().into_iter().flatten() {
        body[member] = value.clone();
    }
    until_ready(backend, "/v1/rooms/quick-play", token, body).await
}

fn room_of(answer: Answer) -> String {
    text(&answer.expect(200)["ticket"]["room"]["room_id"])
}

/// Waits until so many requests have come.
async fn until_waiting(backend: &Backend, count: i64) {
    while backend.count("SELECT COUNT(*) FROM room_requests").await != count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Rooms by their number of seats that are reserved, the fullest first.
async fn rooms(backend: &Backend) -> Vec<(u64, u64)> {
    let token = player(backend).await;
    let page = backend.get("/v1/rooms?limit=200", &token).await.expect(200);
    let mut rooms: Vec<(u64, u64)> = page["rooms"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|room| {
            let number = |field: &str| room[field].as_u64().expect("a number");
            (number("reserved"), number("max_players"))
        })
        .collect();
    rooms.sort_unstable_by(|one, other| other.cmp(one));
    rooms
}

on_both_databases! {
    async fn the_fullest_room_that_fits_is_taken(backend, servers) {
        let ada = player(backend).await;
        for (name, players, change) in [("Empty", 0, json!({})), ("Some", 2, json!({})), ("Full", 4, json!({})), ("Locked", 3, json!({"password": "frog"})),
            ("Hidden", 3, json!({"visibility": "unlisted"})), ("Other", 3, json!({"mode": "race"}))] {
            let mut entry = json!({"players": players, "max_players": 4});
            for (member, value) in change.as_object().into_iter().flatten() {
                entry[member] = value.clone();
            }
            backend.server(name, entry).await;
        }
        let name = |answer: Answer| text(&answer.expect(200)["ticket"]["room"]["name"]);
        assert_eq!(name(play(backend, &ada, "1", json!({"query": {"mode": "race"}})).await), "Other");
        assert_eq!(name(play(backend, &ada, "2", json!({"query": {"search": "some"}})).await), "Some");
        assert_eq!(name(play(backend, &ada, "3", json!({"seats": 4})).await), "Empty");
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 0);
        // One seat at a time: the ones before were given back.
        assert_eq!(backend.count("SELECT COUNT(*) FROM seats").await, 4);
    }

    async fn a_room_is_created_when_none_fits_and_others_come_into_it(backend, servers) {
        let (ada, bob, eve) = (player(backend).await, player(backend).await, player(backend).await);
        let query = json!({"query": {"map": "swamp"}, "room": {"max_players": 2, "mode": "race"}});
        let answer = play(backend, &ada, "1", query.clone()).await;
        let room = &answer.body["ticket"]["room"];
        assert_eq!((&room["map"], &room["mode"], &room["max_players"]), (&json!("swamp"), &json!("race"), &json!(2)), "{room}");
        let first = room_of(answer);
        assert_eq!(room_of(play(backend, &bob, "1", query.clone()).await), first);
        assert_ne!(room_of(play(backend, &eve, "1", query).await), first);
    }

    async fn without_a_new_room_it_waits_for_a_seat(backend) {
        let room = backend.server("Pond", json!({"players": 2, "max_players": 2})).await;
        let ada = player(backend).await;
        let body = json!({"request_id": "1", "wait_seconds": 0});
        let waiting = backend.post("/v1/rooms/quick-play", &ada, &body).await.expect(200);
        assert_eq!((&waiting["status"], &waiting["ticket"]), (&json!("waiting"), &Value::Null));
        let freed = async {
            backend.serve(&format!("/v1/servers/{room}/heartbeat"), &json!({"sequence": 1, "players": 1})).await.expect(200);
        };
        let (answer, ()) = tokio::join!(until_ready(backend, "/v1/rooms/quick-play", &ada, body.clone()), freed);
        assert_eq!(room_of(answer), room);
    }

    async fn a_request_that_waits_is_noted_now_and_then(backend) {
        let ada = player(backend).await;
        let body = json!({"request_id": "1", "wait_seconds": 3});
        let waits = backend.post("/v1/rooms/quick-play", &ada, &body);
        let marks = async {
            until_waiting(backend, 1).await;
            backend.execute("UPDATE room_requests SET polled_at = polled_at + 1000000").await;
            backend.count("SELECT polled_at FROM room_requests").await
        };
        let (answer, marked) = tokio::join!(waits, marks);
        assert_eq!(answer.expect(200)["status"], "waiting");
        // It has looked again, and has written nothing.
        assert_eq!(backend.count("SELECT polled_at FROM room_requests").await, marked);
        let body = json!({"request_id": "1", "wait_seconds": 20});
        let waits = backend.post("/v1/rooms/quick-play", &ada, &body);
        let is_noted = async {
            while backend.count("SELECT polled_at FROM room_requests").await == marked {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            backend.execute("UPDATE room_requests SET polled_at = 1").await;
            while backend.count("SELECT polled_at FROM room_requests").await == 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! { answer = waits => panic!("it was not noted: {answer:?}"), () = is_noted => {} }
    }

    async fn of_a_players_requests_the_newest_gets_the_seat(backend) {
        let room = backend.server("Pond", json!({"players": 2, "max_players": 2})).await;
        let ada = player(backend).await;
        let older = json!({"request_id": "older", "wait_seconds": 4});
        let newer = async {
            until_waiting(backend, 1).await;
            let freed = async {
                until_waiting(backend, 2).await;
                backend.serve(&format!("/v1/servers/{room}/heartbeat"), &json!({"sequence": 1, "players": 0})).await.expect(200);
            };
            let body = json!({"request_id": "newer", "wait_seconds": 20});
            tokio::join!(backend.post("/v1/rooms/quick-play", &ada, &body), freed).0
        };
        let (older, newer) = tokio::join!(backend.post("/v1/rooms/quick-play", &ada, &older), newer);
        assert_eq!(newer.expect(200)["status"], "ready");
        let older = older.expect(200);
        assert_eq!((&older["status"], &older["ticket"]), (&json!("waiting"), &Value::Null));
    }

    async fn a_player_with_many_rooms_waits_rather_than_creates(backend, |config| {
        with_servers(config, SERVER, &json!({"rooms_per_player": 1}));
    }) {
        let ada = player(backend).await;
        room_of(play(backend, &ada, "1", json!({"query": {"mode": "a"}})).await);
        let body = json!({"request_id": "2", "query": {"mode": "b"}, "room": {}, "wait_seconds": 0});
        assert_eq!(backend.post("/v1/rooms/quick-play", &ada, &body).await.expect(200)["status"], "waiting");
    }

    async fn a_crowd_fills_one_room_after_the_other(backend, for_a_crowd) {
        let mut tokens = Vec::new();
        // Accounts are made by few at a time: the crowd is that of quick play.
        while tokens.len() < CROWD {
            tokens.extend(at_once((0..CROWD.min(20)).map(|_| player(backend))).await);
        }
        let beside = backend.beside(|config| {
            for_a_crowd(config);
        });
        let beside = beside.await;
        let answers = at_once(tokens.iter().enumerate().map(|(index, token)| {
            let replica = if index % 2 == 0 { backend } else { &beside };
            play(replica, token, "crowd", json!({}))
        }))
        .await;
        for answer in answers {
            room_of(answer);
        }
        let rooms = rooms(backend).await;
        let reserved: u64 = rooms.iter().map(|(reserved, _)| reserved).sum();
        assert_eq!(usize::try_from(reserved), Ok(CROWD), "{rooms:?}");
        assert!(rooms.iter().all(|(reserved, most)| reserved <= most), "{rooms:?}");
        // 12.5 of them are full, and each replica may have begun one more.
        assert!((13..=15).contains(&rooms.len()), "{rooms:?}");
        let started = backend.count("SELECT COUNT(*) FROM allocations").await;
        assert!((13..=15).contains(&started), "{started} servers were started for {rooms:?}");
        beside.stop().await;
    }

    async fn what_is_no_quick_play_is_refused(backend, servers) {
        let ada = player(backend).await;
        for (field, body) in [
            ("request_id", json!({"room": {}})),
            ("query.map", json!({"request_id": "1", "query": {"map": ""}})),
            ("query.colour", json!({"request_id": "1", "query": {"colour": "red"}})),
            ("room", json!({"request_id": "1", "room": {"visibility": "private"}})),
            ("room", json!({"request_id": "1", "room": {"password": "frog"}})),
            ("room.max_players", json!({"request_id": "1", "room": {"max_players": 9}})),
        ] {
            let answer = backend.post("/v1/rooms/quick-play", &ada, &body).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{}", answer.body);
        }
    }
}
