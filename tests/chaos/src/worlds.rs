//! The worlds of a trial: each is built by one server, looked at when all is healed, and handed to the next server.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::game_server::GameServer;
use crate::history::History;
use crate::plan::{Plan, Put};
use crate::players::SLACK;

/// How long a world may take to be let go or taken. Only a failure takes so long.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between two looks at a server that does not have its world yet.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Id of the world that server number `index` builds; `None` if it builds none.
pub fn id_of(plan: &Plan, history: &History, index: usize) -> Option<String> {
    let builds = plan.worlds.get(index).is_some_and(|puts| !puts.is_empty());
    builds.then(|| format!("{}-{index}", history.name()))
}

/// Makes the changes of one world at their times, whatever happens to the server meanwhile.
pub fn build(server: &GameServer, puts: &[Put]) {
    for put in puts {
        thread::sleep(Duration::from_millis(put.after_ms));
        server.send(&json!({ "do": "put", "name": put.name, "op": put.op, "size": put.size }));
    }
}

/// Looks at every world where it was built, and then on the next server that keeps one.
pub fn visit(plan: &Plan, servers: &[GameServer], history: &History) {
    let keepers: Vec<(usize, String)> =
        (0..servers.len()).filter_map(|index| Some((index, id_of(plan, history, index)?))).collect();
    for (index, world) in &keepers {
        if !ask(&servers[*index], &json!({ "do": "show_world" }), "chunks") {
            history.note(json!({ "event": "world_unreachable", "world": world, "server": index }));
        }
    }
    for (index, world) in &keepers {
        let close = json!({ "do": "close_world", "within_ms": 5_000 });
        if !ask(&servers[*index], &close, "world_closed") {
            history.note(json!({ "event": "world_unreachable", "world": world, "server": index }));
        }
    }
    for (position, (_, world)) in keepers.iter().enumerate() {
        let (next, _) = keepers[(position + 1) % keepers.len()];
        if !ask(&servers[next], &json!({ "do": "open_world", "world": world }), "chunks") {
            history.note(json!({ "event": "world_unreachable", "world": world, "server": next }));
        }
    }
}

/// Asks again until the answer is what it has to be.
fn ask(server: &GameServer, command: &Value, wanted: &str) -> bool {
    let end = Instant::now() + WAIT_TIMEOUT;
    loop {
        let answer = server.ask(command.clone(), WAIT_TIMEOUT + SLACK);
        if answer.is_some_and(|answer| answer.get("event") == Some(&Value::from(wanted))) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
}
