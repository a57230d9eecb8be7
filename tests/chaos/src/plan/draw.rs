//! How a plan is drawn.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::{
    Database, Ending, Fault, Kind, NetworkFault, OnConflict, PAST_LEASE_MS, Plan, Put, Save, Script,
    ServerPlan, Session, SessionEnd, TimedFault, TrialKind, WhenLost,
};

/// The seed of trial number `index` of a run.
pub fn trial_seed(run_seed: u64, index: u64) -> u64 {
    // SplitMix64: neighbouring runs and trials have nothing in common.
    let mut z = run_seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Draws a plan of this kind. `godot`: one of the servers is the real engine.
pub fn draw(seed: u64, kind: TrialKind, godot: bool) -> Plan {
    // Drawn as if there were no other kinds, so that older seeds still give the trials they gave.
    let mut draw = Draw { rng: Xoshiro256PlusPlus::seed_from_u64(seed), next_op: 1 };
    let plan = draw.plan(seed, godot);
    draw.specialize(plan, kind)
}

/// Draws what happens in a trial.
pub(super) struct Draw {
    pub(super) rng: Xoshiro256PlusPlus,
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
            backend: 0,
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
        let worlds = if self.chance(0.4) { self.worlds(&server_plans, shared_journal) } else { Vec::new() };
        Plan {
            seed,
            kind: TrialKind::Mixed,
            database,
            servers: server_plans,
            debounce_ms,
            players,
            faults,
            ending,
            worlds,
            volume_mib: None,
            late_loads: false,
        }
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    pub(super) fn pick<T: Copy + Default>(&mut self, choices: &[T]) -> T {
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

    pub(super) fn script(&mut self, servers: usize) -> Script {
        let mut server = self.rng.random_range(0..servers);
        let sessions = (0..self.rng.random_range(2..=3)).map(|_| {
            let session = self.session(server);
            server = (server + self.rng.random_range(1..servers)) % servers;
            session
        });
        Script { sessions: sessions.collect(), last_server: server, backend: 0 }
    }

    pub(super) fn session(&mut self, server: usize) -> Session {
        let slow = self.chance(0.5);
        let count = self.rng.random_range(2..=9);
        let saves = (0..count).map(|_| self.save(if slow { 120 } else { 20 })).collect();
        let end = if self.chance(0.6) { SessionEnd::Leave } else { SessionEnd::Vanish };
        let late = if end == SessionEnd::Vanish { self.rng.random_range(0..=3) } else { 0 };
        let late_saves = (0..late).map(|_| self.save(60)).collect();
        let when_lost = if self.chance(0.5) { WhenLost::Move } else { WhenLost::Wait };
        Session { server, saves, end, late_saves, when_lost }
    }

    pub(super) fn save(&mut self, longest_pause_ms: u64) -> Save {
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
                let range = match kind {
                    // Past the lease: another server may take over meanwhile.
                    _ if cut && !paused && self.chance(0.5) => PAST_LEASE_MS,
                    // They strike single messages: in less time they often meet none.
                    NetworkFault::DropReply { .. }
                    | NetworkFault::Duplicate { .. }
                    | NetworkFault::Truncate { .. } => (600, 1_800),
                    _ => (100, 900),
                };
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
            1..=2 => NetworkFault::Blackhole,
            3 => NetworkFault::Reset,
            4 => NetworkFault::Delay { pause_ms: self.rng.random_range(20..=300) },
            5..=6 => NetworkFault::DropReply { path },
            7..=8 => NetworkFault::Duplicate { path },
            _ => NetworkFault::Truncate { path },
        }
    }
}

#[cfg(test)]
mod tests;
