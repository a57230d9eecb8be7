//! What a trial does, decided by its seed before anything runs. The plan is the first line of a trial's history, so that
//! the same trial can be run again; only the timing of real processes varies.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// Seconds a lease lives: the shortest that survives one late heartbeat.
pub const LEASE_SECONDS: u64 = 2;
/// Seconds between heartbeats.
pub const HEARTBEAT_SECONDS: u64 = 1;
/// Milliseconds of silence after which a lease has run out: the shortest and the longest drawn.
const PAST_LEASE_MS: (u64, u64) = (LEASE_SECONDS * 1_000 + 200, LEASE_SECONDS * 1_000 + 900);

/// One trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides everything else.
    pub seed: u64,
    /// What the backend stores in.
    pub database: Database,
    /// The game servers.
    pub servers: Vec<ServerPlan>,
    /// Milliseconds a changed document waits for company.
    pub debounce_ms: u64,
    /// One script per player.
    pub players: Vec<Script>,
    /// What goes wrong, and when.
    pub faults: Vec<TimedFault>,
    /// How it ends.
    pub ending: Ending,
    /// Changes of the world that each server keeps, in order; none in most trials.
    #[serde(default)]
    pub worlds: Vec<Vec<Put>>,
}

/// One change of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// Unique in the trial, and growing.
    pub op: i64,
    /// Which chunk.
    pub name: String,
    /// Pause before it, in milliseconds.
    pub after_ms: u64,
    /// Bytes of ballast.
    pub size: usize,
}

/// What the backend stores in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Database {
    /// A file.
    Sqlite,
    /// A database of the given server.
    Postgres,
}

/// One game server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// What it is made of.
    pub kind: Kind,
    /// Number of its journal folder: servers with the same number share one.
    pub journal: usize,
    /// What it does with saves that came too late.
    pub on_conflict: OnConflict,
}

/// What a game server is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The client crate in a process of its own.
    Client,
    /// The fixture game in headless Godot.
    Godot,
}

/// What a game does with a save that came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Leaves it at the backend.
    Keep,
    /// Drops it in favour of what the player has now.
    Ours,
    /// Writes a new document that is built on both.
    Merge,
}

impl OnConflict {
    /// As a game server is told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Ours => "ours",
            Self::Merge => "merge",
        }
    }
}

/// What one player does: one session after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// At least one.
    pub sessions: Vec<Session>,
    /// Where the player is looked at when all is healed.
    pub last_server: usize,
}

/// One stay of a player on a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Which server.
    pub server: usize,
    /// Saves in order.
    pub saves: Vec<Save>,
    /// How it ends.
    pub end: SessionEnd,
    /// Saves that still arrive at this server after the player has turned to the next one.
    pub late_saves: Vec<Save>,
    /// What the player does when the server is gone.
    pub when_lost: WhenLost,
}

/// How a player leaves a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// In good order, and joins the next one at once.
    Leave,
    /// Without a word: the next server asks for the player while this one still has them.
    Vanish,
}

/// What a player does whose server is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenLost {
    /// Joins another one.
    Move,
    /// Waits for this one to come back.
    Wait,
}

/// One save.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Save {
    /// Unique in the trial.
    pub op: i64,
    /// Which document.
    pub key: String,
    /// Pause before it, in milliseconds.
    pub after_ms: u64,
    /// Bytes of ballast.
    pub pad: usize,
    /// As a merge patch instead of the whole document.
    pub patch: bool,
    /// The player's connection breaks right after it and comes back: the server loads a player it holds already.
    pub reconnect: bool,
}

/// One fault at its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedFault {
    /// Milliseconds after the players began.
    pub at_ms: u64,
    /// What happens.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL to a game server, which starts again on the same journal.
    Kill { server: usize, restart_after_ms: u64 },
    /// SIGKILL in the very moment in which the server acknowledged its n-th save from now on.
    KillOnAck { server: usize, acks: u32, restart_after_ms: u64 },
    /// SIGTERM to a game server, which starts again on the same journal.
    Terminate { server: usize, restart_after_ms: u64 },
    /// SIGSTOP, later SIGCONT.
    Pause { server: usize, for_ms: u64 },
    /// SIGKILL to the backend.
    BackendKill { down_ms: u64 },
    /// SIGTERM to the backend.
    BackendTerminate { down_ms: u64 },
    /// The network between one game server and the backend.
    Network { server: usize, kind: NetworkFault, for_ms: u64 },
}

impl Fault {
    /// What the history calls it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "sigkill",
            Self::KillOnAck { .. } => "sigkill_on_ack",
            Self::Terminate { .. } => "sigterm",
            Self::Pause { .. } => "sigstop",
            Self::BackendKill { .. } => "backend_sigkill",
            Self::BackendTerminate { .. } => "backend_sigterm",
            Self::Network { kind, .. } => match kind {
                NetworkFault::Refuse => "refuse",
                NetworkFault::Blackhole => "blackhole",
                NetworkFault::Reset => "reset",
                NetworkFault::Delay { .. } => "delay",
                NetworkFault::DropReply { .. } => "lost_reply",
                NetworkFault::Duplicate { .. } => "duplicate",
                NetworkFault::Truncate { .. } => "truncate",
            },
        }
    }

    /// Whether a server is silent for so long that another one may take its players over.
    pub fn outlives_the_lease(&self) -> bool {
        matches!(self, Self::Pause { for_ms, .. } | Self::Network { for_ms, .. } if *for_ms >= PAST_LEASE_MS.0)
    }
}

/// What a network does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "network", rename_all = "snake_case")]
pub enum NetworkFault {
    /// Refuses connections.
    Refuse,
    /// Swallows everything.
    Blackhole,
    /// Resets connections that carry data.
    Reset,
    /// Is slow.
    Delay { pause_ms: u64 },
    /// Loses replies after execution.
    DropReply { path: String },
    /// Sends requests twice.
    Duplicate { path: String },
    /// Cuts replies.
    Truncate { path: String },
}

/// How a trial ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All is healed, everything is delivered, every player is looked at on another server.
    Deliver,
    /// The backend goes away, the servers are told to stop, all start again, then as above.
    StopWithoutBackend,
    /// All servers are killed; what is left is in the journals.
    Crash,
}

/// The seed of trial number `index` of a run.
pub fn trial_seed(run_seed: u64, index: u64) -> u64 {
    // SplitMix64: neighbouring runs and trials have nothing in common.
    let mut z = run_seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Draws a plan. `godot`: one of the servers is the real engine.
pub fn draw(seed: u64, godot: bool) -> Plan {
    Draw { rng: Xoshiro256PlusPlus::seed_from_u64(seed), next_op: 1 }.plan(seed, godot)
}

struct Draw {
    rng: Xoshiro256PlusPlus,
    next_op: i64,
}

impl Draw {
    fn plan(&mut self, seed: u64, godot: bool) -> Plan {
        let servers = self.rng.random_range(2..=3);
        let shared_journal = self.chance(0.2);
        let on_conflict =
            [OnConflict::Keep, OnConflict::Ours, OnConflict::Merge].choose(&mut self.rng).copied();
        let server_plan = |index: usize| ServerPlan {
            kind: if godot && index == 0 { Kind::Godot } else { Kind::Client },
            journal: if shared_journal && index > 0 { 1 } else { index },
            on_conflict: on_conflict.unwrap_or(OnConflict::Keep),
        };
        let server_plans: Vec<ServerPlan> = (0..servers).map(server_plan).collect();
        let database = if self.chance(0.5) { Database::Sqlite } else { Database::Postgres };
        let debounce_ms = self.pick(&[0, 20, 60, 150]);
        let players = (0..self.rng.random_range(3..=6)).map(|_| self.script(servers)).collect();
        let mut faults: Vec<TimedFault> = Vec::new();
        for _ in 0..self.rng.random_range(2..=4) {
            let fault = self.fault(servers, &faults);
            faults.push(TimedFault { at_ms: self.rng.random_range(50..=1_200), fault });
        }
        faults.sort_by_key(|fault| fault.at_ms);
        let ending = match self.rng.random_range(0..20) {
            0..=2 => Ending::Crash,
            3..=5 => Ending::StopWithoutBackend,
            _ => Ending::Deliver,
        };
        // Last, so that older seeds still give the players they gave.
        let worlds = if self.chance(0.3) { self.worlds(&server_plans, shared_journal) } else { Vec::new() };
        Plan { seed, database, servers: server_plans, debounce_ms, players, faults, ending, worlds }
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    fn pick<T: Copy + Default>(&mut self, choices: &[T]) -> T {
        choices.choose(&mut self.rng).copied().unwrap_or_default()
    }

    /// Only the client's processes keep worlds, and only those with a folder of their own.
    fn worlds(&mut self, servers: &[ServerPlan], shared_journal: bool) -> Vec<Vec<Put>> {
        let mut worlds = Vec::new();
        for server in servers {
            let mut puts = Vec::new();
            if server.kind == Kind::Client && !(shared_journal && server.journal == 1) {
                for _ in 0..self.rng.random_range(5..=30) {
                    let op = self.next_op;
                    self.next_op += 1;
                    let name = self.pick(&["terrain/0,0", "terrain/0,1", "buildings", "weather"]).to_owned();
                    let after_ms = self.rng.random_range(0..=120);
                    puts.push(Put { op, name, after_ms, size: self.pick(&[0, 100, 5_000, 60_000]) });
                }
            }
            worlds.push(puts);
        }
        worlds
    }

    fn script(&mut self, servers: usize) -> Script {
        let mut server = self.rng.random_range(0..servers);
        let sessions = (0..self.rng.random_range(2..=3)).map(|_| {
            let session = self.session(server);
            server = (server + self.rng.random_range(1..servers)) % servers;
            session
        });
        Script { sessions: sessions.collect(), last_server: server }
    }

    fn session(&mut self, server: usize) -> Session {
        let slow = self.chance(0.5);
        let count = self.rng.random_range(2..=9);
        let saves = (0..count).map(|_| self.save(if slow { 120 } else { 20 })).collect();
        let end = if self.chance(0.6) { SessionEnd::Leave } else { SessionEnd::Vanish };
        let late = if end == SessionEnd::Vanish { self.rng.random_range(0..=3) } else { 0 };
        let late_saves = (0..late).map(|_| self.save(60)).collect();
        let when_lost = if self.chance(0.5) { WhenLost::Move } else { WhenLost::Wait };
        Session { server, saves, end, late_saves, when_lost }
    }

    fn save(&mut self, longest_pause_ms: u64) -> Save {
        let op = self.next_op;
        self.next_op += 1;
        Save {
            op,
            key: if self.chance(0.7) { "purse" } else { "place" }.to_owned(),
            after_ms: self.rng.random_range(0..=longest_pause_ms),
            pad: self.pick(&[0, 50, 300, 2_000]),
            patch: self.chance(0.2),
            reconnect: self.chance(0.05),
        }
    }

    fn fault(&mut self, servers: usize, before: &[TimedFault]) -> Fault {
        let server = self.rng.random_range(0..servers);
        let restart_after_ms = self.rng.random_range(0..=400);
        // Once each: they are what makes a trial long.
        let paused = before.iter().any(|timed| timed.fault.outlives_the_lease());
        let outage = before
            .iter()
            .any(|timed| matches!(timed.fault, Fault::BackendKill { .. } | Fault::BackendTerminate { .. }));
        match self.rng.random_range(0..100) {
            0..=11 => Fault::Kill { server, restart_after_ms },
            12..=29 => Fault::KillOnAck { server, acks: self.rng.random_range(1..=4), restart_after_ms },
            30..=39 => Fault::Terminate { server, restart_after_ms },
            40..=54 if !paused => {
                let range = if self.chance(0.75) { PAST_LEASE_MS } else { (100, 600) };
                Fault::Pause { server, for_ms: self.rng.random_range(range.0..=range.1) }
            }
            55..=60 if !outage => Fault::BackendKill { down_ms: self.rng.random_range(50..=600) },
            61..=64 if !outage => Fault::BackendTerminate { down_ms: self.rng.random_range(50..=600) },
            _ => {
                let kind = self.network();
                let cut =
                    matches!(kind, NetworkFault::Refuse | NetworkFault::Blackhole | NetworkFault::Reset);
                // Past the lease: another server may take over meanwhile.
                let range = if cut && !paused && self.chance(0.5) { PAST_LEASE_MS } else { (100, 900) };
                Fault::Network { server, kind, for_ms: self.rng.random_range(range.0..=range.1) }
            }
        }
    }

    fn network(&mut self) -> NetworkFault {
        let path = self
            .pick(&[
                "/v1/players/save",
                "/v1/players/save",
                "/v1/players/save",
                "/v1/players/load",
                "/v1/players/release",
                "/v1/players",
                "/v1/servers",
                "/v1",
            ])
            .to_owned();
        match self.rng.random_range(0..10) {
            0 => NetworkFault::Refuse,
            1 => NetworkFault::Blackhole,
            2 => NetworkFault::Reset,
            3 => NetworkFault::Delay { pause_ms: self.rng.random_range(20..=300) },
            4..=6 => NetworkFault::DropReply { path },
            7..=8 => NetworkFault::Duplicate { path },
            _ => NetworkFault::Truncate { path },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_plan_and_the_plan_survives_its_file() {
        for index in 0..200 {
            let seed = trial_seed(7, index);
            let plan = draw(seed, index % 2 == 0);
            assert_eq!(plan, draw(seed, index % 2 == 0));
            let text = serde_json::to_string(&plan).expect("serializes");
            assert_eq!(plan, serde_json::from_str::<Plan>(&text).expect("parses"));
        }
        assert_ne!(draw(trial_seed(7, 0), false), draw(trial_seed(7, 1), false));
    }

    #[test]
    fn operations_are_unique() {
        let plan = draw(trial_seed(3, 3), false);
        let sessions = plan.players.iter().flat_map(|script| &script.sessions);
        let mut ops: Vec<i64> = sessions
            .flat_map(|session| session.saves.iter().chain(&session.late_saves))
            .map(|save| save.op)
            .chain(plan.worlds.iter().flatten().map(|put| put.op))
            .collect();
        let count = ops.len();
        ops.sort_unstable();
        ops.dedup();
        assert_eq!(ops.len(), count);
    }
}
