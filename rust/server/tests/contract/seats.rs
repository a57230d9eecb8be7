//! Seats: tickets keep places, so that nobody races for the last one.

use serde_json::{Value, json};

use crate::harness::{Answer, Backend, at_once, on_both_databases, text};

async fn ticket(backend: &Backend, room_id: &str, token: &str, body: Value) -> Answer {
    backend.post(&format!("/v1/rooms/{room_id}/ticket"), token, &body).await
}

async fn player(backend: &Backend) -> String {
    text(&backend.guest("Ada").await["access_token"])
}

async fn players(backend: &Backend, count: usize) -> Vec<String> {
    let mut tokens = Vec::with_capacity(count);
    for _ in 0..count {
        tokens.push(player(backend).await);
    }
    tokens
}

async fn beat(backend: &Backend, room_id: &str, sequence: u64, change: Value) -> Value {
    let mut body = json!({"sequence": sequence, "players": 0});
    for (member, value) in change.as_object().into_iter().flatten() {
        body[member] = value.clone();
    }
    backend.serve(&format!("/v1/servers/{room_id}/heartbeat"), &body).await.expect(200)
}

/// Players, reserved seats, and whether the room is on the list of rooms that are not full.
async fn shown(backend: &Backend, room_id: &str) -> (u64, u64, bool) {
    let room = backend.get(&format!("/v1/rooms/{room_id}"), &backend.key).await.expect(200);
    let open = backend.get("/v1/rooms?not_full=true", &backend.key).await.expect(200);
    let open = open["rooms"].as_array().expect("list").iter().any(|one| one["room_id"] == room["room_id"]);
    (room["players"].as_u64().expect("a number"), room["reserved"].as_u64().expect("a number"), open)
}

async fn until_shown(backend: &Backend, room_id: &str, expected: (u64, u64, bool)) {
    while shown(backend, room_id).await != expected {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The id that a ticket has.
fn id_of(ticket: &Value) -> String {
    use base64::Engine;
    let text = text(&ticket["ticket"]);
    let claims = text.split('.').nth(1).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    claims["jti"].as_str().expect("an id").to_owned()
}

/// A hundred players want the last seat, through two replicas; one gets it.
async fn the_last_seat_is_given_once(backend: &Backend) {
    let replica = backend.beside(|_| {}).await;
    let room = backend.server("Pond", json!({"max_players": 8, "players": 7})).await;
    let tokens = players(backend, 100).await;
    let attempts = tokens.iter().enumerate().map(|(index, token)| {
        let through = if index % 2 == 0 { backend } else { &replica };
        ticket(through, &room, token, json!({}))
    });
    let answers = at_once(attempts).await;
    let granted = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.refused(409, "room_full");
    }
    assert_eq!(granted, 1);
    assert_eq!(shown(backend, &room).await, (7, 1, false));
    replica.stop().await;
}

on_both_databases! {
    async fn a_hundred_players_want_the_last_seat(backend) {
        the_last_seat_is_given_once(backend).await;
    }

    async fn a_seat_is_kept_until_its_server_counts_the_player(backend) {
        let room = backend.server("Pond", json!({"max_players": 2})).await;
        let tokens = players(backend, 3).await;
        assert_eq!(shown(backend, &room).await, (0, 0, true));
        let first = ticket(backend, &room, &tokens[0], json!({})).await.expect(200);
        assert_eq!(shown(backend, &room).await, (0, 1, true));
        // A repetition replaces the reservation.
        let first_again = ticket(backend, &room, &tokens[0], json!({})).await.expect(200);
        assert_eq!(shown(backend, &room).await, (0, 1, true));
        ticket(backend, &room, &tokens[1], json!({})).await.expect(200);
        assert_eq!(shown(backend, &room).await, (0, 2, false));
        ticket(backend, &room, &tokens[2], json!({})).await.refused(409, "room_full");
        // Used at the backend: the seat is kept until a heartbeat counts the player.
        let used = json!({"token": first_again["ticket"], "server_id": room});
        assert_eq!(backend.serve("/v1/validate", &used).await.expect(200)["ticket_id"], id_of(&first_again).as_str());
        ticket(backend, &room, &tokens[2], json!({})).await.refused(409, "room_full");
        // A heartbeat that was on its way: it neither counts the player nor names the ticket.
        beat(backend, &room, 1, json!({})).await;
        ticket(backend, &room, &tokens[2], json!({})).await.refused(409, "room_full");
        beat(backend, &room, 2, json!({"players": 1, "used_tickets": [id_of(&first_again), id_of(&first)]})).await;
        assert_eq!(shown(backend, &room).await, (1, 1, false));
        // Turned away: named, and not counted.
        let second = backend.count("SELECT COUNT(*) FROM seats").await;
        assert_eq!(second, 1);
        backend.execute("UPDATE seats SET expires_at = 1").await;
        // Expired: it is free before it is swept. A page may be 100 ms old, as this backend did not change the row itself.
        until_shown(backend, &room, (1, 0, true)).await;
        ticket(backend, &room, &tokens[2], json!({})).await.expect(200);
        backend.execute("UPDATE seats SET expires_at = 1").await;
        backend.sweep().await;
        assert_eq!(backend.count("SELECT COUNT(*) FROM seats").await, 0);
    }

    async fn a_ticket_that_is_verified_offline_ends_its_seat_with_the_heartbeat(backend) {
        let room = backend.server("Pond", json!({"max_players": 1})).await;
        let (token, other) = (player(backend).await, player(backend).await);
        let granted = ticket(backend, &room, &token, json!({})).await.expect(200);
        beat(backend, &room, 1, json!({"players": 1, "used_tickets": [id_of(&granted)]})).await;
        assert_eq!(shown(backend, &room).await, (1, 0, false));
        beat(backend, &room, 2, json!({"players": 0})).await;
        ticket(backend, &room, &other, json!({})).await.expect(200);
        // Another server cannot end it.
        let elsewhere = backend.server("Lake", json!({})).await;
        let seat = ticket(backend, &room, &other, json!({})).await.expect(200);
        beat(backend, &elsewhere, 1, json!({"used_tickets": [id_of(&seat)]})).await;
        assert_eq!(shown(backend, &room).await, (0, 1, false));
    }

    async fn a_player_keeps_one_seat_wherever_it_is(backend) {
        let (pond, lake) = (backend.server("Pond", json!({})).await, backend.server("Lake", json!({})).await);
        let token = player(backend).await;
        ticket(backend, &pond, &token, json!({})).await.expect(200);
        ticket(backend, &lake, &token, json!({})).await.expect(200);
        assert_eq!((shown(backend, &pond).await.1, shown(backend, &lake).await.1), (0, 1));
        // What is refused gives nothing back.
        let full = backend.server("Full", json!({"players": 2})).await;
        ticket(backend, &full, &token, json!({})).await.refused(409, "room_full");
        assert_eq!(shown(backend, &lake).await.1, 1);
    }

    async fn a_party_gets_all_its_seats_or_none(backend) {
        let room = backend.server("Pond", json!({"max_players": 4, "visibility": "private", "password": "frog"})).await;
        let code = backend.serve(&format!("/v1/servers/{room}/heartbeat"), &json!({"sequence": 1, "players": 0})).await.expect(200)["invite_code"].clone();
        let tokens = players(backend, 5).await;
        let ask = |token: &str, seats: u32| {
            let (token, body) = (token.to_owned(), json!({"invite_code": code, "password": "frog", "seats": seats}));
            async move { backend.post("/v1/rooms/by-code/ticket", &token, &body).await }
        };
        ask(&tokens[0], 5).await.refused(409, "room_full");
        assert_eq!(backend.count("SELECT COUNT(*) FROM seats").await, 0);
        let leader = ask(&tokens[0], 3).await.expect(200);
        let party = json!({"party_code": leader["party_code"]});
        ask(&tokens[4], 2).await.refused(409, "room_full");
        // The others need neither the password nor the invite code, and claim one seat each, however often they ask.
        for token in [&tokens[1], &tokens[1], &tokens[2], &tokens[2]] {
            let claimed = ticket(backend, &room, token, party.clone()).await.expect(200);
            assert_eq!(claimed["party_code"], Value::Null);
            assert_eq!(claimed["room"]["room_id"], room.as_str());
        }
        ticket(backend, &room, &tokens[3], party.clone()).await.refused(404, "party_code_unknown");
        ticket(backend, &room, &tokens[3], json!({"party_code": "guessed"})).await.refused(404, "party_code_unknown");
        ask(&tokens[3], 1).await.expect(200);
        ask(&tokens[4], 1).await.refused(409, "room_full");
        // The code is kept as a hash.
        let stored = backend.count("SELECT COUNT(*) FROM seats WHERE party_hash IS NOT NULL AND length(party_hash) = 64").await;
        assert_eq!(stored, 3);
    }

    async fn a_party_that_is_reserved_again_replaces_what_nobody_has_claimed(backend) {
        let room = backend.server("Pond", json!({"max_players": 4})).await;
        let tokens = players(backend, 2).await;
        let first = ticket(backend, &room, &tokens[0], json!({"seats": 4})).await.expect(200);
        let second = ticket(backend, &room, &tokens[0], json!({"seats": 4})).await.expect(200);
        assert_eq!(shown(backend, &room).await.1, 4);
        let claim = |ticket: &Value| json!({"party_code": ticket["party_code"]});
        ticket(backend, &room, &tokens[1], claim(&first)).await.refused(404, "party_code_unknown");
        ticket(backend, &room, &tokens[1], claim(&second)).await.expect(200);
        backend.execute("UPDATE seats SET expires_at = 1 WHERE player_id IS NULL").await;
        assert_eq!(shown(backend, &room).await.1, 2);
    }

    async fn the_seats_of_a_party_are_claimed_once_each(backend) {
        let room = backend.server("Pond", json!({"max_players": 16})).await;
        let tokens = players(backend, 12).await;
        let leader = ticket(backend, &room, &tokens[0], json!({"seats": 6})).await.expect(200);
        let party = json!({"party_code": leader["party_code"]});
        let answers = at_once(tokens[1..].iter().map(|token| ticket(backend, &room, token, party.clone()))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 5);
        assert_eq!(shown(backend, &room).await.1, 6);
    }

    async fn seats_end_with_their_room(backend) {
        let room = backend.server("Pond", json!({})).await;
        ticket(backend, &room, &player(backend).await, json!({})).await.expect(200);
        let path = format!("/v1/servers/{room}");
        backend.send(backend.request(reqwest::Method::DELETE, &path).bearer_auth(&backend.key)).await.expect(204);
        assert_eq!(backend.count("SELECT COUNT(*) FROM seats").await, 0);
    }

    async fn what_is_no_party_is_refused(backend) {
        let room = backend.server("Pond", json!({})).await;
        let token = player(backend).await;
        for (field, body) in [
            ("seats", json!({"seats": 0})),
            ("seats", json!({"seats": 17})),
            ("seats", json!({"seats": -1})),
            ("seats", json!({"seats": 2, "party_code": "abc"})),
            ("party_code", json!({"party_code": "a b"})),
            ("players", json!({"players": ["ada"]})),
        ] {
            let answer = ticket(backend, &room, &token, body).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{}", answer.body);
        }
        let many: Vec<String> = (0..201).map(|index| format!("ticket-{index}")).collect();
        let answer = backend.serve(&format!("/v1/servers/{room}/heartbeat"), &json!({"sequence": 1, "players": 0, "used_tickets": many})).await;
        answer.refused(422, "invalid_field");
        assert_eq!(answer.field(), "used_tickets");
    }
}
