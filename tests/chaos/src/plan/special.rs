//! Trials that are about one thing: what is drawn for all of them is turned into what shows it.

use rand::RngExt as _;

use super::draw::Draw;
use super::{
    Ending, Fault, Kind, NetworkFault, OnConflict, Plan, Save, Script, ServerPlan, Session, SessionEnd,
    StopSignal, TimedFault, TrialKind, WhenLost,
};

/// Time between two ticks of a game.
const TICK_MS: u64 = 16;

/// The kinds of twenty trials; a few, because most of what is found is found by everything at once.
const TURNS: [TrialKind; 20] = {
    let mut turns = [TrialKind::Mixed; 20];
    turns[3] = TrialKind::SmallSaves;
    turns[5] = TrialKind::RestoredBackup;
    turns[7] = TrialKind::ForeignBackends;
    turns[9] = TrialKind::LeavingUnderLoad;
    turns[12] = TrialKind::SmallVolume;
    turns[14] = TrialKind::LateLoads;
    turns[17] = TrialKind::RestoredBackup;
    turns[19] = TrialKind::ForeignBackends;
    turns
};
/// The kinds of trials with a real engine, which is the only one to have some of them.
const GODOT_TURNS: [TrialKind; 5] = [
    TrialKind::Mixed,
    TrialKind::DoubleSignals,
    TrialKind::ClosedPipes,
    TrialKind::LeavingUnderLoad,
    TrialKind::DoubleSignals,
];

/// What trial number `index` of a run is about; `godot`: which one with the real engine it is, if it is one.
pub fn kind_of(index: u64, godot: Option<u64>) -> TrialKind {
    let turn = |turns: &[TrialKind], number: u64| {
        let position = usize::try_from(number % turns.len() as u64).unwrap_or_default();
        turns.get(position).copied().unwrap_or_default()
    };
    godot.map_or_else(|| turn(&TURNS, index), |number| turn(&GODOT_TURNS, number))
}

impl Draw {
    /// Makes a trial of this kind of one of all kinds.
    pub(super) fn specialize(&mut self, mut plan: Plan, kind: TrialKind) -> Plan {
        plan.kind = kind;
        match kind {
            TrialKind::Mixed => {}
            TrialKind::SmallSaves => self.small_saves(&mut plan),
            TrialKind::SmallVolume => self.small_volume(&mut plan),
            TrialKind::ForeignBackends => self.foreign_backends(&mut plan),
            TrialKind::RestoredBackup => self.restored_backup(&mut plan),
            TrialKind::LateLoads => self.late_loads(&mut plan),
            TrialKind::LeavingUnderLoad => self.leaving_under_load(&mut plan),
            TrialKind::ClosedPipes => self.closed_pipes(&mut plan),
            TrialKind::DoubleSignals => self.double_signals(&mut plan),
        }
        plan.faults.sort_by_key(|fault| fault.at_ms);
        plan
    }

    /// Server 0 has a journal folder of its own, and players who are saved with each of its ticks; all is quiet elsewhere.
    fn at_rate(&mut self, plan: &mut Plan, players: usize, every_ms: u64, saves: usize) {
        plan.worlds.clear();
        plan.debounce_ms = self.pick(&[0, 0, 20]);
        plan.ending = Ending::Deliver;
        plan.faults.clear();
        for (index, server) in plan.servers.iter_mut().enumerate() {
            server.journal = index;
        }
        plan.players.truncate(1);
        for _ in 0..players {
            let mut session = |count: usize, every_ms: u64| Session {
                server: 0,
                saves: (0..count).map(|_| self.small_save(every_ms)).collect(),
                end: SessionEnd::Leave,
                late_saves: Vec::new(),
                when_lost: WhenLost::Wait,
            };
            // The second one shows what has become of the server.
            let sessions = vec![session(saves, every_ms), session(40, 50)];
            plan.players.insert(0, Script { sessions, last_server: 1, backend: 0 });
        }
    }

    fn small_save(&mut self, after_ms: u64) -> Save {
        Save { key: "purse".to_owned(), after_ms, pad: 0, patch: false, reconnect: false, ..self.save(0) }
    }

    fn small_saves(&mut self, plan: &mut Plan) {
        self.at_rate(plan, 3, TICK_MS, 640);
        // Half of them with a backend that is away, which is when a journal has to keep things.
        if self.chance(0.5) {
            let kind = NetworkFault::Refuse;
            let for_ms = self.rng.random_range(1_000..=4_000);
            plan.faults.push(TimedFault { at_ms: 2_000, fault: Fault::Network { server: 0, kind, for_ms } });
        }
    }

    fn small_volume(&mut self, plan: &mut Plan) {
        if self.chance(0.4) {
            // Nobody but the journal fills it, and nothing but a journal that grows without bound could.
            self.at_rate(plan, 3, TICK_MS, 960);
            plan.volume_mib = Some(12);
            return;
        }
        self.at_rate(plan, 2, TICK_MS, 320);
        plan.volume_mib = Some(self.rng.random_range(16..=23));
        let fault = Fault::FullVolume {
            server: 0,
            room_kib: self.pick(&[0, 16, 128]),
            for_ms: self.rng.random_range(800..=2_000),
            restart: self.chance(0.4),
        };
        plan.faults.push(TimedFault { at_ms: self.rng.random_range(500..=1_500), fault });
    }

    /// A server of another backend uses the journal folder of all, and starts while others' journals lie there.
    fn foreign_backends(&mut self, plan: &mut Plan) {
        let foreign = plan.servers.len();
        for server in &mut plan.servers {
            server.journal = 0;
        }
        plan.worlds.clear();
        plan.servers.push(ServerPlan {
            kind: Kind::Client,
            journal: 0,
            on_conflict: OnConflict::Keep,
            backend: 1,
        });
        let mut script = self.script(2);
        for session in &mut script.sessions {
            session.server = foreign;
            session.when_lost = WhenLost::Wait;
        }
        plan.players.push(Script { last_server: foreign, backend: 1, ..script });
        plan.faults.truncate(2);
        for at_ms in [500, 1_000, 1_500] {
            // Its journal lies there for a while.
            let server = self.rng.random_range(0..foreign);
            let restart_after_ms = self.rng.random_range(300..=900);
            let fault = Fault::KillOnAck { server, acks: self.rng.random_range(1..=3), restart_after_ms };
            plan.faults.push(TimedFault { at_ms, fault });
            let restart_after_ms = self.rng.random_range(0..=100);
            let at_ms = at_ms + self.rng.random_range(100..=400);
            let fault = if self.chance(0.5) {
                Fault::Kill { server: foreign, restart_after_ms }
            } else {
                Fault::Terminate { server: foreign, restart_after_ms }
            };
            plan.faults.push(TimedFault { at_ms, fault });
        }
    }

    /// Nobody dies: what was delivered and is gone with the database is held by servers only.
    fn restored_backup(&mut self, plan: &mut Plan) {
        plan.ending = Ending::Deliver;
        plan.faults.retain(|timed| {
            matches!(timed.fault, Fault::Network { .. }) && !timed.fault.outlives_the_lease()
        });
        plan.faults.truncate(1);
        let fault = Fault::Restore {
            cold_copy: self.chance(0.5),
            after_ms: self.rng.random_range(200..=1_500),
            down_ms: self.rng.random_range(100..=400),
            again_ms: self.chance(0.4).then(|| self.rng.random_range(0..=600)),
        };
        plan.faults.push(TimedFault { at_ms: self.rng.random_range(200..=900), fault });
    }

    fn late_loads(&mut self, plan: &mut Plan) {
        plan.late_loads = true;
        for _ in 0..2 {
            let server = self.rng.random_range(0..plan.servers.len());
            let fault = Fault::Terminate { server, restart_after_ms: self.rng.random_range(0..=400) };
            plan.faults.push(TimedFault { at_ms: self.rng.random_range(200..=1_500), fault });
        }
    }

    fn leaving_under_load(&mut self, plan: &mut Plan) {
        plan.worlds.clear();
        plan.faults.clear();
        for script in &mut plan.players {
            if let Some(first) = script.sessions.first_mut() {
                first.server = 0;
            }
        }
        let fault = Fault::Leave {
            server: 0,
            every_ms: 16,
            delay_ms: self.rng.random_range(50..=120),
            restart_after_ms: self.rng.random_range(0..=300),
        };
        plan.faults.push(TimedFault { at_ms: self.rng.random_range(400..=900), fault });
        if self.chance(0.7) {
            let fault = Fault::StopUnlisted { server: 1, after_ms: self.rng.random_range(100..=500) };
            plan.faults.push(TimedFault { at_ms: self.rng.random_range(400..=1_200), fault });
        }
    }

    fn closed_pipes(&mut self, plan: &mut Plan) {
        plan.worlds.clear();
        plan.faults.clear();
        // Large batches: nothing is cut in the middle that goes out in one piece. Not so large that a busy machine cannot take one
        // within the time-out of a call.
        let saves = |draw: &mut Self| {
            let large = |number: usize, draw: &mut Self| Save {
                key: format!("large-{number}"),
                after_ms: if number == 0 { 400 } else { 0 },
                pad: 64_000,
                patch: false,
                reconnect: false,
                ..draw.save(0)
            };
            (0..32).map(|number| large(number % 16, draw)).collect()
        };
        let session = Session {
            server: 0,
            saves: saves(self),
            end: SessionEnd::Vanish,
            late_saves: Vec::new(),
            when_lost: WhenLost::Wait,
        };
        plan.players.truncate(2);
        plan.players.push(Script { sessions: vec![session], last_server: 1, backend: 0 });
        let kind = NetworkFault::HangUp { path: "/v1/players/save".to_owned() };
        plan.faults.push(TimedFault { at_ms: 100, fault: Fault::Network { server: 0, kind, for_ms: 1_200 } });
        let fault = Fault::ClosePipe {
            server: 0,
            after_ms: self.rng.random_range(50..=300),
            restart_after_ms: self.rng.random_range(0..=300),
        };
        plan.faults.push(TimedFault { at_ms: 2_200, fault });
    }

    fn double_signals(&mut self, plan: &mut Plan) {
        use StopSignal::{Hup, Int, Term};
        const PAIRS: [&[StopSignal]; 7] = [
            &[Term, Term],
            &[Term, Term],
            &[Int, Int],
            &[Hup],
            &[Term, Int],
            &[Hup, Term],
            &[Term, Term, Term],
        ];
        plan.worlds.clear();
        plan.faults.clear();
        for script in &mut plan.players {
            if let Some(first) = script.sessions.first_mut() {
                first.server = 0;
            }
        }
        for at_ms in [600, 2_400] {
            let signals = PAIRS[self.rng.random_range(0..PAIRS.len())].to_vec();
            let fault = Fault::Signals {
                server: 0,
                signals,
                gap_ms: self.rng.random_range(0..=30),
                restart_after_ms: self.rng.random_range(0..=200),
            };
            plan.faults.push(TimedFault { at_ms, fault });
        }
    }
}
