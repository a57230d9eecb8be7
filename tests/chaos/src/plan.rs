//! What a trial does, decided by its seed before anything runs. The plan is the first line of a trial's history, so that
//! the same trial can be run again; only the timing of real processes varies.

mod draw;
mod special;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use draw::{draw, trial_seed};
pub use special::kind_of;

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
    /// What it is about.
    #[serde(default)]
    pub kind: TrialKind,
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
    /// MiB of the volume that server 0 has its journal on; `None`: the volume of everybody.
    #[serde(default)]
    pub volume_mib: Option<u64>,
    /// Requests for players come once more when their server has let them go or has left.
    #[serde(default)]
    pub late_loads: bool,
}

/// What a trial is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TrialKind {
    /// Crashes, stops, freezes, networks that fail, all at once.
    #[default]
    Mixed,
    /// One player is saved with little in it at the rate of a game's ticks, for long.
    SmallSaves,
    /// The same on a volume of its own, which runs full and gets room again.
    SmallVolume,
    /// Servers of two backends have one journal folder.
    ForeignBackends,
    /// The backend's database goes back to an older copy.
    RestoredBackup,
    /// Requests for players arrive once more when their server has let them go or has left.
    LateLoads,
    /// A server is told to stop while its game goes on saving over a slow network.
    LeavingUnderLoad,
    /// Nobody reads what the server prints, and the backend hangs up while it is sent to.
    ClosedPipes,
    /// Signals to stop come twice, or as a hang-up of the terminal.
    DoubleSignals,
}

impl TrialKind {
    /// Whether it says something of the engine's process only.
    pub const fn needs_godot(self) -> bool {
        matches!(self, Self::ClosedPipes | Self::DoubleSignals)
    }
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
    /// Which backend it belongs to: 0, or 1 for the foreign one.
    #[serde(default)]
    pub backend: usize,
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
    /// Which backend has the account.
    #[serde(default)]
    pub backend: usize,
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
    /// The volume of a server's journal is full but for a few KiB. The server may be told to stop meanwhile, and starts
    /// again while there is no room.
    FullVolume { server: usize, room_kib: u64, for_ms: u64, restart: bool },
    /// A copy of the database is taken, and the backend goes back to it later; once more, if `again_ms` is there, so long after
    /// that.
    Restore { cold_copy: bool, after_ms: u64, down_ms: u64, again_ms: Option<u64> },
    /// The game saves all players of a server at this pace, whatever happens, and the server is told to stop meanwhile, over
    /// a network with this delay.
    Leave { server: usize, every_ms: u64, delay_ms: u64, restart_after_ms: u64 },
    /// A server is killed, and started again where it cannot reach its backend, and told to stop there.
    StopUnlisted { server: usize, after_ms: u64 },
    /// These signals to a server, one after the other.
    Signals { server: usize, signals: Vec<StopSignal>, gap_ms: u64, restart_after_ms: u64 },
    /// Nobody reads what a server prints any more, and then it is told to stop.
    ClosePipe { server: usize, after_ms: u64, restart_after_ms: u64 },
}

/// What tells a process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGHUP.
    Hup,
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
                NetworkFault::HangUp { .. } => "hang_up",
            },
            Self::FullVolume { .. } => "full_volume",
            Self::Restore { .. } => "restore",
            Self::Leave { .. } => "leave_under_load",
            Self::StopUnlisted { .. } => "stop_unlisted",
            Self::Signals { .. } => "signals",
            Self::ClosePipe { .. } => "closed_pipe",
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
    /// Ends connections in good order in the middle of requests.
    HangUp { path: String },
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
