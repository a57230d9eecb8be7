//! Matchmaking: tickets, parties, proposals, rooms, running games, and two replicas.

use std::time::Duration;

use backend_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, on_both_databases, text};

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Two matchmakers over one rule set: `duel`, and `asked`, whose players have to accept.
fn matchmaking(config: &mut Config) {
    let worlds = std::path::PathBuf::from(config.world_storage.clone().expect("a folder of the test"));
    let folder = worlds.parent().expect("the test's own").display().to_string();
    let rule_set = json!({
        "ruleLanguageVersion": "1.0",
        "playerAttributes": [{"name": "skill", "type": "number", "default": 50}],
        "teams": [{"name": "side", "minPlayers": 1, "maxPlayers": 2, "quantity": 2}],
        "rules": [
            {"name": "Skill", "type": "batchDistance", "batchAttribute": "skill", "maxDistance": 10},
            {"name": "SameSize", "type": "comparison", "measurements": "count(teams[side_1].players)",
             "referenceValue": "count(teams[side_2].players)", "operation": "="},
        ],
    });
    let file = json!({
        "interval_ms": 50,
        "matchmakers": [
            {"name": "duel", "rule_set": "rules.json", "request_timeout_seconds": 600, "placement_timeout_seconds": 600,
             "room": {"mode": "duel"}},
            {"name": "asked", "rule_set": "rules.json", "acceptance_required": true, "acceptance_timeout_seconds": 600,
             "request_timeout_seconds": 600, "room": {"mode": "duel"}},
            {"name": "alone", "rule_set": "rules.json", "bots_after_seconds": 1, "request_timeout_seconds": 600,
             "room": {"mode": "duel"}},
            {"name": "hasty", "rule_set": "rules.json", "acceptance_required": true, "acceptance_timeout_seconds": 1,
             "request_timeout_seconds": 2, "placement_timeout_seconds": 1, "room": {"mode": "nowhere"}},
        ],
    });
    for (name, content) in [("rules.json", rule_set), ("matchmaking.json", file)] {
        std::fs::write(format!("{folder}/{name}"), content.to_string()).expect("written");
    }
    config.matchmaking = Some(format!("{folder}/matchmaking.json").into());
    config.new_accounts_per_minute = 0;
}

const TICKETS: &str = "/v1/matchmaking/tickets";

pub struct Guest {
    pub token: String,
    pub id: String,
}

pub async fn guest(backend: &Backend, name: &str) -> Guest {
    let session = backend.guest(name).await;
    Guest { token: text(&session["access_token"]), id: text(&session["player_id"]) }
}

async fn ask(backend: &Backend, guest: &Guest, matchmaker: &str, skill: f64) -> Answer {
    let body = json!({"matchmaker": matchmaker, "players": [{"attributes": {"skill": skill}}]});
    backend.post(TICKETS, &guest.token, &body).await
}

pub async fn ticket_id(backend: &Backend, guest: &Guest, matchmaker: &str, skill: f64) -> String {
    text(&ask(backend, guest, matchmaker, skill).await.expect(201)["ticket_id"])
}

/// Reads the ticket until it has this status.
pub async fn until(backend: &Backend, bearer: &str, ticket_id: &str, status: &str) -> Value {
    let reading = async {
        loop {
            let ticket = backend.get(&format!("{TICKETS}/{ticket_id}"), bearer).await.expect(200);
            if ticket["status"] == status {
                return ticket;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, reading)
        .await
        .unwrap_or_else(|_| panic!("{ticket_id} did not become {status}"))
}

async fn room(backend: &Backend, name: &str) -> String {
    backend.server(name, json!({"mode": "duel", "max_players": 4})).await
}

on_both_databases! {
    async fn two_players_get_a_match_and_a_room(backend, matchmaking) {
        backend.server("Elsewhere", json!({"mode": "race", "max_players": 8})).await;
        backend.server("Busy", json!({"mode": "duel", "max_players": 8, "players": 1})).await;
        let (ada, bob, far) = (guest(backend, "Ada").await, guest(backend, "Bob").await, guest(backend, "Far").await);
        let first = ticket_id(backend, &ada, "duel", 50.0).await;
        let other = ticket_id(backend, &far, "duel", 90.0).await;
        let second = ticket_id(backend, &bob, "duel", 55.0).await;
        // There is no room that is empty and of the mode yet.
        let placing = until(backend, &ada.token, &first, "placing").await;
        assert_eq!(placing["match"]["room_id"], Value::Null);
        let cancel = backend.request(Method::DELETE, &format!("{TICKETS}/{first}")).bearer_auth(&ada.token);
        backend.send(cancel).await.refused(409, "matchmaking_ticket_closed");
        let room_id = room(backend, "Free").await;
        let done = until(backend, &ada.token, &first, "completed").await;
        assert_eq!(done["match"]["room_id"], room_id.as_str());
        assert_eq!(done["match"], until(backend, &bob.token, &second, "completed").await["match"]);
        let mut players: Vec<(String, String)> = done["match"]["players"].as_array().expect("players").iter()
            .map(|player| (text(&player["player_id"]), text(&player["team"]))).collect();
        players.sort_by(|one, other| one.1.cmp(&other.1));
        assert_eq!(players.iter().map(|(_id, team)| team.as_str()).collect::<Vec<_>>(), ["side_1", "side_2"]);
        assert!(players.iter().all(|(id, _team)| *id == ada.id || *id == bob.id));
        let join = backend.request(Method::POST, &format!("/v1/rooms/{room_id}/ticket")).bearer_auth(&ada.token);
        assert_eq!(backend.send(join).await.expect(200)["room"]["room_id"], room_id.as_str());
        assert_eq!(until(backend, &far.token, &other, "searching").await["estimated_wait_seconds"].as_i64().map(|s| s >= 0), Some(true));
        // Both may ask again; a room whose players are on their way is not given twice.
        let again = [ticket_id(backend, &ada, "duel", 50.0).await, ticket_id(backend, &bob, "duel", 50.0).await];
        until(backend, &ada.token, &again[0], "placing").await;
        let next = room(backend, "Next").await;
        assert_eq!(until(backend, &bob.token, &again[1], "completed").await["match"]["room_id"], next.as_str());
    }

    async fn a_ticket_belongs_to_its_players(backend, matchmaking) {
        let (ada, bob) = (guest(backend, "Ada").await, guest(backend, "Bob").await);
        let first = ticket_id(backend, &ada, "duel", 1.0).await;
        // A game that was closed keeps nobody from searching again; a party of others does.
        let replaced = first;
        let first = ticket_id(backend, &ada, "asked", 1.0).await;
        assert_eq!(until(backend, &ada.token, &replaced, "cancelled").await["reason"], "replaced");
        let party = json!({"matchmaker": "duel", "party_size": 2, "players": [{}]});
        let cy = guest(backend, "Cy").await;
        let invitation = text(&backend.post(TICKETS, &cy.token, &party).await.expect(201)["ticket_id"]);
        let join = format!("{TICKETS}/{invitation}/players");
        backend.post(&join, &ada.token, &json!({})).await.refused(409, "already_in_matchmaking");
        backend.post(&join, &bob.token, &json!({})).await.expect(200);
        ask(backend, &bob, "duel", 1.0).await.refused(409, "already_in_matchmaking");
        let path = format!("{TICKETS}/{first}");
        backend.get(&path, &bob.token).await.refused(404, "matchmaking_ticket_not_found");
        backend.get(&path, &backend.key).await.refused(404, "matchmaking_ticket_not_found");
        let cancel = |token: &str| backend.request(Method::DELETE, &path).bearer_auth(token);
        backend.send(cancel(&bob.token)).await.refused(404, "matchmaking_ticket_not_found");
        assert_eq!(backend.send(cancel(&ada.token)).await.expect(200)["status"], "cancelled");
        assert_eq!(backend.send(cancel(&ada.token)).await.expect(200)["reason"], "cancelled");
        // The same request again is the same ticket.
        let body = json!({"matchmaker": "duel", "players": [{}]});
        let repeated = || backend.request(Method::POST, TICKETS).bearer_auth(&ada.token).json(&body)
            .header("idempotency-key", "0b8e6d1c-5a0f-4d6f-9d0c-000000000001");
        let one = backend.send(repeated()).await.expect(201);
        assert_eq!(backend.send(repeated()).await.expect(201)["ticket_id"], one["ticket_id"]);
    }

    async fn a_party_searches_once_all_are_there(backend, matchmaking) {
        room(backend, "Free").await;
        let guests = [guest(backend, "A").await, guest(backend, "B").await, guest(backend, "C").await, guest(backend, "D").await];
        let body = json!({"matchmaker": "duel", "party_size": 2, "players": [{"attributes": {"skill": 50}}]});
        let party = text(&backend.post(TICKETS, &guests[0].token, &body).await.expect(201)["ticket_id"]);
        let solos = [ticket_id(backend, &guests[2], "duel", 50.0).await];
        until(backend, &guests[0].token, &party, "queued").await;
        let join = |guest: &Guest| {
            let path = format!("{TICKETS}/{party}/players");
            let token = guest.token.clone();
            async move { backend.post(&path, &token, &json!({"attributes": {"skill": 52}})).await }
        };
        let cancel = backend.request(Method::DELETE, &format!("{TICKETS}/{}", solos[0])).bearer_auth(&guests[2].token);
        backend.send(cancel).await.expect(200);
        assert_eq!(join(&guests[1]).await.expect(200)["status"], "searching");
        // A repetition changes nothing, and the party is complete.
        assert_eq!(join(&guests[1]).await.expect(200)["player_ids"].as_array().map(Vec::len), Some(2));
        join(&guests[3]).await.refused(409, "matchmaking_ticket_closed");
        let solos = [ticket_id(backend, &guests[2], "duel", 50.0).await, ticket_id(backend, &guests[3], "duel", 50.0).await];
        let done = until(backend, &guests[1].token, &party, "completed").await;
        let team = |guest: &Guest| {
            let players = done["match"]["players"].as_array().expect("players");
            let player = players.iter().find(|player| player["player_id"] == guest.id.as_str());
            text(&player.expect("in the match")["team"])
        };
        assert_eq!(team(&guests[0]), team(&guests[1]));
        until(backend, &guests[2].token, &solos[0], "completed").await;
        until(backend, &guests[3].token, &solos[1], "completed").await;
    }

    async fn who_rejects_is_out_and_who_accepts_searches_on(backend, matchmaking) {
        let room_id = room(backend, "Free").await;
        let (ada, bob, cy) = (guest(backend, "Ada").await, guest(backend, "Bob").await, guest(backend, "Cy").await);
        let first = ticket_id(backend, &ada, "asked", 50.0).await;
        let second = ticket_id(backend, &bob, "asked", 50.0).await;
        let answer = |ticket: &str, guest: &Guest, accept: bool| {
            let (path, token) = (format!("{TICKETS}/{ticket}/answer"), guest.token.clone());
            async move { backend.post(&path, &token, &json!({"accept": accept})).await }
        };
        answer(&first, &cy, true).await.refused(404, "matchmaking_ticket_not_found");
        let proposed = until(backend, &ada.token, &first, "requires_acceptance").await;
        assert_eq!(proposed["match"]["players"].as_array().map(Vec::len), Some(2));
        assert_eq!((&proposed["match"]["accepted"], &proposed["expires_in_seconds"]), (&json!(0), &Value::Null));
        let seconds = proposed["match"]["answer_within_seconds"].as_u64().expect("seconds");
        assert!((1..=600).contains(&seconds), "{seconds}");
        answer(&first, &ada, true).await.expect(200);
        let accepted = until(backend, &ada.token, &first, "requires_acceptance").await;
        assert_eq!(accepted["match"]["accepted"], 1);
        answer(&second, &bob, false).await.expect(200);
        assert_eq!(until(backend, &bob.token, &second, "cancelled").await["reason"], "rejected");
        let searching = until(backend, &ada.token, &first, "searching").await;
        assert_eq!(searching["created_at"], proposed["created_at"]);
        answer(&first, &ada, true).await.refused(409, "matchmaking_ticket_closed");
        let third = ticket_id(backend, &cy, "asked", 50.0).await;
        until(backend, &cy.token, &third, "requires_acceptance").await;
        answer(&third, &cy, true).await.expect(200);
        answer(&first, &ada, true).await.expect(200);
        assert_eq!(until(backend, &ada.token, &first, "completed").await["match"]["room_id"], room_id.as_str());
    }

    async fn time_outs_end_tickets(backend, matchmaking) {
        let (ada, bob) = (guest(backend, "Ada").await, guest(backend, "Bob").await);
        let alone = ticket_id(backend, &ada, "hasty", 50.0).await;
        assert_eq!(until(backend, &ada.token, &alone, "timed_out").await["reason"], "timed_out");
        let first = ticket_id(backend, &ada, "hasty", 50.0).await;
        let second = ticket_id(backend, &bob, "hasty", 50.0).await;
        until(backend, &ada.token, &first, "requires_acceptance").await;
        assert_eq!(until(backend, &bob.token, &second, "cancelled").await["reason"], "no_answer");
        let tickets = [ticket_id(backend, &ada, "hasty", 50.0).await, ticket_id(backend, &bob, "hasty", 50.0).await];
        for (guest, ticket) in [&ada, &bob].into_iter().zip(&tickets) {
            until(backend, &guest.token, ticket, "requires_acceptance").await;
            backend.post(&format!("{TICKETS}/{ticket}/answer"), &guest.token, &json!({"accept": true})).await.expect(200);
        }
        assert_eq!(until(backend, &ada.token, &tickets[0], "failed").await["reason"], "no_room");
    }

    async fn a_running_game_gets_players(backend, matchmaking) {
        let server_id = backend.server("Running", json!({"mode": "duel", "max_players": 4, "players": 1})).await;
        let body = |server_id: &str| json!({"matchmaker": "duel", "backfill_server_id": server_id,
            "players": [{"player_id": "somebody", "attributes": {"skill": 50}, "team": "side_1"}]});
        let first = text(&backend.serve(TICKETS, &body(&server_id)).await.expect(201)["ticket_id"]);
        let second = text(&backend.serve(TICKETS, &body(&server_id)).await.expect(201)["ticket_id"]);
        assert_eq!(until(backend, &backend.key, &first, "cancelled").await["reason"], "replaced");
        let ada = guest(backend, "Ada").await;
        let ticket = ticket_id(backend, &ada, "duel", 50.0).await;
        let done = until(backend, &ada.token, &ticket, "completed").await;
        assert_eq!(done["match"]["room_id"], server_id.as_str());
        assert_eq!(until(backend, &backend.key, &second, "completed").await["match"], done["match"]);
        let refused = backend.serve(TICKETS, &body("another")).await;
        assert_eq!((refused.status.as_u16(), refused.field()), (422, "backfill_server_id"));
    }

    async fn who_waits_alone_plays_with_bots(backend, matchmaking) {
        let room_id = room(backend, "Free").await;
        let guests = [guest(backend, "Ada").await, guest(backend, "Bob").await, guest(backend, "Far").await];
        let body = json!({"matchmaker": "alone", "party_size": 2, "players": [{"attributes": {"skill": 50}}]});
        let party = text(&backend.post(TICKETS, &guests[0].token, &body).await.expect(201)["ticket_id"]);
        backend.post(&format!("{TICKETS}/{party}/players"), &guests[1].token, &json!({})).await.expect(200);
        let far = ticket_id(backend, &guests[2], "alone", 90.0).await;
        let done = until(backend, &guests[0].token, &party, "completed").await;
        let of_team = |bot: bool| {
            let players = done["match"]["players"].as_array().expect("players").iter();
            let wanted = players.filter(|player| (player["is_bot"] == true) == bot);
            wanted.map(|player| text(&player["team"])).collect::<Vec<_>>()
        };
        let (people, bots) = (of_team(false), of_team(true));
        assert_eq!((people.len(), bots.len()), (2, 2), "{done}");
        assert!(people[0] == people[1] && bots[0] == bots[1] && people[0] != bots[0], "{done}");
        // Its server knows who is who, and nobody else's does.
        let path = format!("/v1/servers/{room_id}/matches");
        let placed = backend.get(&path, &backend.key).await.expect(200);
        assert_eq!(placed["matches"][0]["match_id"], done["match"]["match_id"]);
        assert_eq!(placed["matches"][0]["players"].as_array().map(Vec::len), Some(2));
        assert_eq!(placed["matches"][0]["players"][0]["attributes"]["skill"], 50.0);
        assert_eq!(placed["matches"][0]["bots"].as_array().map(Vec::len), Some(2));
        backend.get(&path, &guests[0].token).await.refused(401, "unauthorized");
        backend.get("/v1/servers/another/matches", &backend.key).await.refused(404, "server_unknown");
        // One of another skill plays with bots of that skill.
        let next = room(backend, "Next").await;
        assert_eq!(until(backend, &guests[2].token, &far, "completed").await["match"]["room_id"], next.as_str());
    }

    async fn bad_input_is_named(backend, matchmaking) {
        let ada = guest(backend, "Ada").await;
        let own = |player: Value| json!({"matchmaker": "duel", "players": [player]});
        for (body, field) in [
            (json!({"matchmaker": "duel", "players": []}), "players"),
            (json!({"matchmaker": "duel", "players": [{}, {}]}), "players"),
            (json!({"matchmaker": "duel", "players": [{}], "party_size": 3}), "party_size"),
            (json!({"matchmaker": "duel", "players": [{}], "party_size": 0}), "party_size"),
            (json!({"matchmaker": "duel", "players": [{}], "backfill_server_id": "x"}), "backfill_server_id"),
            (json!({"matchmaker": "duel", "players": [{}], "priority": 1}), "priority"),
            (own(json!({"player_id": "other"})), "players[0].player_id"),
            (own(json!({"team": "side_1"})), "players[0].team"),
            (own(json!({"attributes": {"skill": "high"}})), "players[0].attributes[skill]"),
            (own(json!({"latency_ms": {"eu": 100_001}})), "players[0].latency_ms.eu"),
            (own(json!({"latency_ms": {"eu": -1}})), "players[0].latency_ms.eu"),
        ] {
            let answer = backend.post(TICKETS, &ada.token, &body).await;
            assert_eq!((answer.status.as_u16(), answer.field()), (422, field), "{body}: {}", answer.body);
        }
        let unknown = json!({"matchmaker": "chess", "players": [{}]});
        backend.post(TICKETS, &ada.token, &unknown).await.refused(404, "matchmaker_not_found");
        backend.post(TICKETS, "", &unknown).await.refused(401, "unauthorized");
        backend.get(&format!("{TICKETS}/%00"), &ada.token).await.refused(422, "invalid_field");
        // Nothing was left behind.
        assert_eq!(backend.count("SELECT COUNT(*) FROM matchmaking_tickets").await, 0);
        assert_eq!(backend.count("SELECT COUNT(*) FROM matchmaking_players").await, 0);
    }

    async fn two_replicas_share_one_queue_and_survive_each_other(backend, matchmaking) {
        let second = backend.beside(matchmaking).await;
        for number in 0..8 {
            room(backend, &format!("Room {number}")).await;
        }
        let mut waiting = Vec::new();
        for number in 0..12 {
            let at = if number % 2 == 0 { backend } else { &second };
            let player = guest(at, &format!("P{number}")).await;
            // Only two are of one skill.
            let ticket = ticket_id(at, &player, "duel", f64::from(number / 2 * 100)).await;
            waiting.push((player, ticket));
        }
        let mut rooms = Vec::new();
        for pair in waiting.chunks(2) {
            let one = until(backend, &pair[0].0.token, &pair[0].1, "completed").await;
            let other = until(&second, &pair[1].0.token, &pair[1].1, "completed").await;
            assert_eq!(one["match"], other["match"]);
            rooms.push(text(&one["match"]["room_id"]));
        }
        let all = rooms.len();
        rooms.sort();
        rooms.dedup();
        assert_eq!(rooms.len(), all, "each match has a room of its own");
        // One replica goes, whoever had the lease: the other goes on, and no ticket is lost.
        let (ada, bob) = (&waiting[0].0, &waiting[1].0);
        let first = ticket_id(&second, ada, "duel", 7.0).await;
        second.stop().await;
        let last = ticket_id(backend, bob, "duel", 7.0).await;
        let done = until(backend, &ada.token, &first, "completed").await;
        assert_eq!(done["match"], until(backend, &bob.token, &last, "completed").await["match"]);
    }
}
