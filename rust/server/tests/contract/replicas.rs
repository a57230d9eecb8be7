//! Two processes of the backend on one PostgreSQL behind a round-robin proxy. One is killed in the middle of the work and started
//! again, and the other one is restarted. What has come of it is judged by what clients were told and by the database.

mod cluster;
mod placed_rooms;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use self::cluster::{Cluster, POLL_INTERVAL, TIMEOUT};
use crate::harness::{at_once, text};
use crate::room_follower::{Follower, listed};

/// Runs all of the work, and the disturbance of the replicas beside it.
async fn disturbed<T>(
    cluster: &Arc<Cluster>,
    steps: usize,
    work: impl Iterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let disturbance = tokio::spawn(Arc::clone(cluster).disturb(steps));
    let results = tokio::time::timeout(TIMEOUT, at_once(work)).await.expect("the work is done in the end");
    tokio::time::timeout(TIMEOUT, disturbance).await.expect("in time").expect("disturbed as planned");
    results
}

fn without_account_limit(_folder: &Path, _proxy: &str) -> Vec<String> {
    vec!["--new-accounts-per-minute".to_owned(), "0".to_owned()]
}

/// A game server that the test plays: who comes with a ticket is counted from its next heartbeat on.
struct GameServer {
    room_id: String,
    sequence: u64,
    players: Vec<String>,
}

impl GameServer {
    /// Lets a player in whose ticket is good, and says so.
    async fn admit(&mut self, cluster: &Cluster, ticket: &str) -> bool {
        let body = json!({"token": ticket, "server_id": self.room_id});
        let answer = cluster.serve("/v1/validate", &body).await;
        if answer.status != 200 {
            // It took so long that the ticket has expired; the player asks for another one.
            answer.refused(401, "token_expired");
            return false;
        }
        self.players.push(text(&answer.body["player_id"]));
        self.sequence += 1;
        let beat = json!({"sequence": self.sequence, "players": self.players.len(),
            "used_tickets": [answer.body["ticket_id"]]});
        cluster.serve(&format!("/v1/servers/{}/heartbeat", self.room_id), &beat).await.expect(200);
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_seat_is_given_twice() {
    const ROOMS: usize = 4;
    const SEATS: usize = 3;
    const PLAYERS: usize = 20;
    let cluster = Cluster::start(without_account_limit).await;
    let mut servers = Vec::new();
    for number in 0..ROOMS {
        let room_id = cluster.server(&format!("Pond {number}"), json!({"max_players": SEATS})).await;
        servers.push(Mutex::new(GameServer { room_id, sequence: 0, players: Vec::new() }));
    }
    let room_ids: Vec<String> =
        at_once(servers.iter().map(|server| async { server.lock().await.room_id.clone() })).await;
    let guests = cluster.guests(PLAYERS).await;
    let seated = disturbed(
        &cluster,
        PLAYERS,
        guests.iter().enumerate().map(|(number, (token, _))| {
            let (cluster, servers, room_ids) = (&cluster, &servers, &room_ids);
            async move {
                let mut is_seated = false;
                'rooms: for offset in 0..ROOMS {
                    let index = (number + offset) % ROOMS;
                    loop {
                        let path = format!("/v1/rooms/{}/ticket", room_ids[index]);
                        let answer = cluster.post(&path, token, &json!({})).await;
                        if answer.status != 200 {
                            answer.refused(409, "room_full");
                            break;
                        }
                        if servers[index].lock().await.admit(cluster, &text(&answer.body["ticket"])).await {
                            is_seated = true;
                            break 'rooms;
                        }
                    }
                }
                cluster.note_done();
                is_seated
            }
        }),
    )
    .await;
    // Each place has been taken once, by a player who is nowhere else.
    assert_eq!(seated.iter().filter(|seated| **seated).count(), ROOMS * SEATS);
    let mut all = HashSet::new();
    for server in &servers {
        let server = server.lock().await;
        assert_eq!(server.players.len(), SEATS, "{}", server.room_id);
        assert!(server.players.iter().all(|player| all.insert(player.clone())), "a player sits twice");
    }
    assert_eq!(cluster.count("SELECT COUNT(*) FROM seats").await, 0);
    let wrong = format!("SELECT COUNT(*) FROM servers WHERE players <> {SEATS}");
    assert_eq!(cluster.count(&wrong).await, 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_have_no_gap() {
    const SERVERS: usize = 6;
    const ROUNDS: usize = 10;
    const QUERIES: [&str; 6] = ["", "?map=lily", "?not_full=true", "", "?map=moss", "?search=pond"];
    let cluster = Cluster::start(without_account_limit).await;
    let mut first = Vec::new();
    for query in QUERIES {
        first.push((query, Follower::new(&*cluster, query).await));
    }
    let is_over = tokio::sync::watch::Sender::new(false);
    let changes = disturbed(&cluster, SERVERS * ROUNDS, (0..SERVERS).map(|number| {
        let cluster = &cluster;
        async move {
            let mut room_id = None;
            for round in 1..=ROUNDS {
                let map = if (number + round) % 3 == 0 { "moss" } else { "lily" };
                let id = match room_id.take() {
                    None => cluster.server(&format!("Pond {number}"), json!({"map": map})).await,
                    Some(id) => id,
                };
                let beat = json!({"sequence": round, "players": round % 3, "map": map, "attributes": {"round": round}});
                cluster.serve(&format!("/v1/servers/{id}/heartbeat"), &beat).await.expect(200);
                // Every fourth round it leaves, and comes back as another one.
                if round % 4 == 0 && round < ROUNDS {
                    let answer = cluster.send(Method::DELETE, &format!("/v1/servers/{id}"), crate::room_follower::Target::key(&**cluster), None).await;
                    // The reply to an attempt that took effect may have been lost.
                    assert!([204, 404].contains(&answer.status.as_u16()), "{}", answer.body);
                } else {
                    room_id = Some(id);
                }
                cluster.note_done();
            }
            room_id.expect("it is there in the end")
        }
    }));
    // Beside it, each stream that breaks goes on where it was.
    let following = at_once(first.into_iter().map(|(query, mut follower)| {
        let (cluster, mut over) = (&cluster, is_over.subscribe());
        async move {
            let mut breaks = 0;
            let mut rounds: BTreeMap<String, i64> = BTreeMap::new();
            loop {
                let step = tokio::select! {
                    step = follower.step() => step,
                    ended = over.wait_for(|over| *over) => {
                        drop(ended.expect("the sender is there"));
                        break;
                    }
                };
                if step.is_none() {
                    breaks += 1;
                    follower = follower.resume(&**cluster, query).await;
                    // What happened meanwhile is told, rather than the whole list again.
                    assert!(!follower.raw.contains("event: reset"), "{}", follower.raw);
                }
                for (id, room) in &follower.rooms {
                    let round = room["attributes"]["round"].as_i64().unwrap_or_default();
                    let before = rounds.insert(id.clone(), round).unwrap_or_default();
                    assert!(before <= round, "{id} went back from {before} to {round}");
                }
            }
            (query, follower, breaks)
        }
    }));
    let (room_ids, followers) = tokio::join!(
        async {
            let room_ids = changes.await;
            is_over.send_replace(true);
            room_ids
        },
        following
    );
    let mut breaks = 0;
    for (query, mut follower, of_one) in followers {
        breaks += of_one;
        let list = listed(&*cluster, query).await;
        let expected = &list;
        let settled = async {
            while follower.rooms != *expected {
                if follower.step().await.is_none() {
                    follower = follower.resume(&*cluster, query).await;
                    assert!(!follower.raw.contains("event: reset"), "{}", follower.raw);
                }
            }
            follower
        };
        let follower = tokio::time::timeout(TIMEOUT, settled).await.expect("the list is whole in the end");
        if query.is_empty() {
            let ids: BTreeSet<&String> = follower.rooms.keys().collect();
            assert_eq!(ids, room_ids.iter().collect::<BTreeSet<_>>());
        }
    }
    assert!(breaks >= QUERIES.len() / 2, "{breaks} streams were broken");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_matchmaking_ticket_is_lost() {
    const MATCHES: usize = 6;
    let cluster = Cluster::start(|folder, _proxy| {
        let rule_set = json!({
            "ruleLanguageVersion": "1.0",
            "playerAttributes": [{"name": "skill", "type": "number"}],
            "teams": [{"name": "side", "minPlayers": 1, "maxPlayers": 1, "quantity": 2}],
            "rules": [{"name": "Skill", "type": "batchDistance", "batchAttribute": "skill", "maxDistance": 10}],
        });
        let file = json!({"interval_ms": 50, "matchmakers": [{"name": "duel", "rule_set": "rules.json",
            "request_timeout_seconds": 3600, "placement_timeout_seconds": 3600, "room": {"mode": "duel"}}]});
        for (name, content) in [("rules.json", &rule_set), ("matchmaking.json", &file)] {
            std::fs::write(folder.join(name), content.to_string()).expect("written");
        }
        let file = folder.join("matchmaking.json").display().to_string();
        [without_account_limit(folder, ""), vec!["--matchmaking".to_owned(), file]].concat()
    })
    .await;
    let path = "/v1/matchmaking/tickets";
    let guests = cluster.guests(2 * MATCHES).await;
    let mut servers = BTreeMap::new();
    for number in 0..MATCHES {
        let room_id = cluster.server(&format!("Arena {number}"), json!({"mode": "duel"})).await;
        servers.insert(room_id.clone(), Mutex::new(GameServer { room_id, sequence: 0, players: Vec::new() }));
    }
    let completed = disturbed(
        &cluster,
        2 * MATCHES,
        guests.iter().enumerate().map(|(number, (token, player_id))| {
            let (cluster, servers) = (&cluster, &servers);
            async move {
                // One pair after the other begins, so that some search while the replicas go.
                let before = 2 * (number / 2).saturating_sub(1);
                while cluster.done.load(std::sync::atomic::Ordering::Relaxed) < before {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                let skill = number / 2 * 100;
                let body = json!({"matchmaker": "duel", "players": [{"attributes": {"skill": skill}}]});
                let ticket_id = text(&cluster.post(path, token, &body).await.expect(201)["ticket_id"]);
                loop {
                    let ticket = cluster.get(&format!("{path}/{ticket_id}"), token).await.expect(200);
                    match ticket["status"].as_str() {
                        Some("completed") => {
                            come(cluster, servers, token, &text(&ticket["match"]["room_id"])).await;
                            cluster.note_done();
                            return (number / 2, player_id.clone(), ticket);
                        }
                        Some("queued" | "searching" | "placing") => tokio::time::sleep(POLL_INTERVAL).await,
                        _ => panic!("a ticket was lost: {ticket}"),
                    }
                }
            }
        }),
    )
    .await;
    let mut rooms_of: HashMap<usize, (Value, String)> = HashMap::new();
    for (pair, player_id, ticket) in &completed {
        let formed = &ticket["match"];
        let players: Vec<&str> = formed["players"]
            .as_array()
            .expect("players")
            .iter()
            .filter_map(|player| player["player_id"].as_str())
            .collect();
        assert!(players.len() == 2 && players.contains(&player_id.as_str()), "{ticket}");
        let room_id = text(&formed["room_id"]);
        let (match_id, room) = rooms_of.entry(*pair).or_insert((formed["match_id"].clone(), room_id.clone()));
        assert_eq!((&*match_id, &*room), (&formed["match_id"], &room_id), "both are told the same");
    }
    let used: BTreeSet<&String> = rooms_of.values().map(|(_, room)| room).collect();
    assert_eq!(used, servers.keys().collect(), "each match has a room of its own");
    for (_, player_id, ticket) in &completed {
        let server = servers[&text(&ticket["match"]["room_id"])].lock().await;
        assert!(server.players.len() == 2 && server.players.contains(player_id), "{:?}", server.players);
    }
    let tickets = i64::try_from(2 * MATCHES).expect("few");
    for (sql, expected) in [
        ("SELECT COUNT(*) FROM matchmaking_tickets WHERE status = 'completed'", tickets),
        ("SELECT COUNT(*) FROM matchmaking_tickets", tickets),
        ("SELECT COUNT(*) FROM matchmaking_matches WHERE status = 'placed'", tickets / 2),
        ("SELECT COUNT(*) FROM matchmaking_matches", tickets / 2),
        ("SELECT COUNT(*) FROM matchmaking_players", 0),
    ] {
        assert_eq!(cluster.count(sql).await, expected, "{sql}");
    }
    cluster.stop().await;
}

/// Takes the seat that a match has kept for a player.
async fn come(cluster: &Cluster, servers: &BTreeMap<String, Mutex<GameServer>>, token: &str, room_id: &str) {
    loop {
        let answer = cluster.post(&format!("/v1/rooms/{room_id}/ticket"), token, &json!({})).await;
        let ticket = text(&answer.expect(200)["ticket"]);
        if servers[room_id].lock().await.admit(cluster, &ticket).await {
            return;
        }
    }
}

/// Wrong invite codes of one player until no replica takes another one. A replica that is started anew has forgotten those before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limits_hold_within_a_factor_of_the_replicas() {
    const BURST: u64 = 10;
    let cluster = Cluster::start(without_account_limit).await;
    let (token, _) = cluster.guest().await;
    let begun = Instant::now();
    let (mut taken, mut refused_in_a_row) = (0, 0);
    while refused_in_a_row < 4 {
        let answer =
            cluster.post("/v1/rooms/by-code/ticket", &token, &json!({"invite_code": "222-222"})).await;
        if answer.status == 429 {
            refused_in_a_row += 1;
        } else {
            answer.refused(404, "invite_code_unknown");
            (taken, refused_in_a_row) = (taken + 1, 0);
        }
    }
    // One a minute is given back by each.
    let most = 2 * (BURST + 1 + begun.elapsed().as_secs() / 60);
    assert!((BURST..=most).contains(&taken), "{taken} of at most {most}");
    cluster.stop().await;
}
