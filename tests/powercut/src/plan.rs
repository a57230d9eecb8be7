//! What each cut does, decided by the seed and the number of the cut. Only the timing of real processes varies.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use crate::Subject;

/// One cut.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names the cut, and begins the ids of its players.
    pub index: u64,
    /// When the power goes.
    pub cut_point: CutPoint,
    /// Whose saves are at stake.
    pub subject: Subject,
    /// The process that the cut meets.
    pub writer: WriterPlan,
}

/// When the power goes, in microseconds.
#[derive(Debug, Clone)]
pub enum CutPoint {
    /// In the middle of saving: this long after the first acknowledgement.
    Saving {
        /// Time after the first acknowledgement.
        after: u64,
    },
    /// Around the first save into a folder that did not exist.
    Creation {
        /// Whether the time counts from the first acknowledgement, or from before the journal is opened.
        acknowledged: bool,
        /// Time from there.
        after: u64,
    },
    /// While a process takes over what others left that were killed.
    Recovery {
        /// Those processes: each has a journal of the same folder, or the same world after the one before.
        killed: Vec<WriterPlan>,
        /// How long they live after their first acknowledgements.
        lifetime: u64,
        /// Time after the journal begins to be opened.
        after: u64,
    },
}

/// One process.
#[derive(Debug, Clone)]
pub struct WriterPlan {
    /// Decides what it saves.
    pub seed: u64,
    /// What it runs.
    pub workload: Workload,
    /// Whether the backend takes what the store sends.
    pub backend_takes: bool,
}

/// What a process runs.
#[derive(Debug, Clone, Copy)]
pub enum Workload {
    /// The journal alone.
    Journal,
    /// The player store.
    Store,
    /// The world store.
    World,
}

impl Workload {
    /// For the command line of the writer.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Store => "store",
            Self::World => "world",
        }
    }
}

impl Plan {
    /// Cut number `index` of the run with this seed, of `only` this subject if there is one.
    pub fn draw(seed: u64, index: u64, only: Option<Subject>) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(index));
        let drawn = if rng.random_ratio(1, 4) { Subject::World } else { Subject::Players };
        let subject = only.unwrap_or(drawn);
        let cut_point = match rng.random_range(0..20) {
            0..10 => CutPoint::Saving { after: rng.random_range(2_000..=120_000) },
            10..14 => {
                let acknowledged = rng.random_bool(0.5);
                let longest = if acknowledged { 3_000 } else { 40_000 };
                CutPoint::Creation { acknowledged, after: rng.random_range(0..=longest) }
            }
            _ => CutPoint::Recovery {
                killed: (0..rng.random_range(1..=3)).map(|_| writer(&mut rng, subject)).collect(),
                lifetime: rng.random_range(0..=60_000),
                after: rng.random_range(0..=60_000),
            },
        };
        Self { index, cut_point, subject, writer: writer(&mut rng, subject) }
    }
}

fn writer(rng: &mut Xoshiro256PlusPlus, subject: Subject) -> WriterPlan {
    let (seed, store, backend_takes) = (rng.random(), rng.random_bool(0.5), rng.random_bool(0.3));
    let workload = match subject {
        Subject::World => Workload::World,
        Subject::Players if store => Workload::Store,
        Subject::Players => Workload::Journal,
    };
    WriterPlan { seed, workload, backend_takes }
}
