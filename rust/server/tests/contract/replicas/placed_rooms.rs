//! Rooms that replicas start themselves: creation and quick play, while one replica is killed and one restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::{Cluster, POLL_INTERVAL, TIMEOUT};
use super::{disturbed, without_account_limit};
use crate::harness::{Answer, text};
use crate::rooms_on_demand::kept;

const SEATS: usize = 4;

/// A server that registers, in as many attempts as it takes, and then sends heartbeats until it is asked to end or the test is over.
/// `$1` is its port.
const SERVER: &str = r#"
trap 'exit 0' TERM
key="Authorization: Bearer $(cat "$BACKEND_SERVER_KEY_FILE")"
post() { curl -s --max-time 20 -w '\n%{http_code}' "$BACKEND_URL$1" -H "$key" -H 'Content-Type: application/json' -d "$2"; }
entry="{\"instance_id\":\"$BACKEND_ALLOCATION_ID\",\"allocation_id\":\"$BACKEND_ALLOCATION_ID\",\"name\":\"Own\",\"address\":\"127.0.0.1\",\"port\":$1,\"max_players\":4}"
while :; do
  reply=$(post /v1/servers "$entry")
  case "$reply" in *201) break ;; *409) exit 4 ;; esac
  [ -e "$BACKEND_SERVER_KEY_FILE" ] || exit 0
  sleep 0.2
done
id=$(printf %s "$reply" | sed -n 's/.*"server_id":"\([^"]*\)".*/\1/p')
count=0
while [ -e "$BACKEND_SERVER_KEY_FILE" ]; do
  count=$((count + 1))
  [ $((count % 50)) -ne 0 ] || post "/v1/servers/$id/heartbeat" "{\"sequence\":$count,\"players\":0,\"room_taken_over\":true}" > /dev/null
  sleep 0.2
done
"#;

fn with_servers(folder: &Path, proxy: &str) -> Vec<String> {
    // They listen on nothing, so that both replicas may give the same ports.
    let script = folder.join("server.sh");
    std::fs::write(&script, SERVER).expect("written");
    let file = json!({"command": ["sh", script.display().to_string(), "{port}"], "ports": "18000-19999",
        "backend_url": proxy, "max_servers": 40, "max_players": SEATS, "start_timeout_seconds": 300, "log_in_errors": true,
        "empty_timeout_seconds": 0});
    let path = folder.join("rooms.json");
    std::fs::write(&path, file.to_string()).expect("written");
    [without_account_limit(folder, proxy), vec!["--rooms-on-demand".to_owned(), path.display().to_string()]]
        .concat()
}

/// Repeats a request for a room until there is a ticket or an error.
async fn until_ready(cluster: &Cluster, path: &str, token: &str, mut body: Value) -> Answer {
    body["wait_seconds"] = 5.into();
    loop {
        let answer = cluster.post(path, token, &body).await;
        if answer.status != 200 || answer.body["status"] == "ready" {
            return answer;
        }
    }
}

fn room_of(answer: Answer) -> String {
    text(&answer.expect(200)["ticket"]["room"]["room_id"])
}

/// What runs is what is stored: each open allocation has one server that is on the list and a process, and there is nothing else.
async fn check_nothing_is_orphaned(cluster: &Arc<Cluster>, rooms: &BTreeSet<String>) {
    let count = i64::try_from(rooms.len()).expect("few");
    let settled = async {
        while cluster.folders().iter().map(|folder| kept(&folder.join("room-servers"))).sum::<usize>()
            != rooms.len()
            || cluster.count("SELECT COUNT(*) FROM allocations WHERE ended_at IS NULL").await != count
        {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(TIMEOUT, settled).await.expect("as many processes and allocations as rooms");
    for (sql, expected) in [
        ("SELECT COUNT(*) FROM allocations WHERE status = 'ready'", count),
        ("SELECT COUNT(DISTINCT server_id) FROM allocations WHERE ended_at IS NULL", count),
        ("SELECT COUNT(*) FROM servers", count),
        (
            "SELECT COUNT(*) FROM servers JOIN allocations ON allocations.server_id = servers.server_id WHERE ended_at IS NULL",
            count,
        ),
        // One seat for each player, in the room that they were told of.
        ("SELECT COUNT(*) - COUNT(DISTINCT player_id) FROM seats", 0),
    ] {
        assert_eq!(cluster.count(sql).await, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_is_created_twice_or_orphaned() {
    const PLAYERS: usize = 8;
    let cluster = Cluster::start(with_servers).await;
    let guests = cluster.guests(PLAYERS).await;
    let rooms = disturbed(
        &cluster,
        PLAYERS,
        guests.iter().enumerate().map(|(number, (token, _))| {
            let cluster = &cluster;
            async move {
                // One after the other begins, so that some start while the replicas go.
                while cluster.done.load(std::sync::atomic::Ordering::Relaxed) + PLAYERS / 4 < number {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                let body = json!({"request_id": "own", "room": {"name": format!("Room {number}")}});
                let answer = until_ready(cluster, "/v1/rooms", token, body).await.expect(200);
                cluster.note_done();
                let room = &answer["ticket"]["room"];
                assert_eq!(room["name"], format!("Room {number}"));
                text(&room["room_id"])
            }
        }),
    )
    .await;
    let distinct: BTreeSet<String> = rooms.iter().cloned().collect();
    assert_eq!(distinct.len(), PLAYERS, "each player has a room: {rooms:?}");
    assert_eq!(cluster.count("SELECT COUNT(*) FROM allocations").await, i64::try_from(PLAYERS).expect("few"));
    check_nothing_is_orphaned(&cluster, &distinct).await;
    // The same request is still the same room, wherever it comes to.
    for ((token, _), room) in guests.iter().zip(&rooms).take(4) {
        for number in [0, 1] {
            let index = rooms.iter().position(|one| one == room).expect("it is there");
            let body = json!({"request_id": "own", "room": {"name": format!("Room {index}")}});
            let again = until_ready(&cluster, "/v1/rooms", token, body).await;
            assert_eq!(room_of(again), *room, "repetition {number}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_play_seats_everybody_and_starts_no_more_rooms_than_it_takes() {
    const PLAYERS: usize = 18;
    let cluster = Cluster::start(with_servers).await;
    let guests = cluster.guests(PLAYERS).await;
    let body = json!({"request_id": "play", "room": {}});
    let told = disturbed(
        &cluster,
        PLAYERS,
        guests.iter().enumerate().map(|(number, (token, player_id))| {
            let (cluster, body) = (&cluster, body.clone());
            async move {
                while cluster.done.load(std::sync::atomic::Ordering::Relaxed) + PLAYERS / 2 < number {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                let room = room_of(until_ready(cluster, "/v1/rooms/quick-play", token, body).await);
                cluster.note_done();
                (player_id.clone(), room)
            }
        }),
    )
    .await;
    let mut seated: BTreeMap<String, usize> = BTreeMap::new();
    for (_, room) in &told {
        *seated.entry(room.clone()).or_default() += 1;
    }
    assert!(seated.values().all(|players| *players <= SEATS), "{seated:?}");
    let least = PLAYERS.div_ceil(SEATS);
    // Each replica may have begun one more.
    assert!((least..=least + 2).contains(&seated.len()), "{seated:?}");
    let created = cluster.count("SELECT COUNT(*) FROM allocations").await;
    assert!(
        created <= i64::try_from(least + 2).expect("few"),
        "{created} rooms were created for {PLAYERS} players"
    );
    let rooms: BTreeSet<String> = seated.into_keys().collect();
    check_nothing_is_orphaned(&cluster, &rooms).await;
    cluster.stop().await;
}
