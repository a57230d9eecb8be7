//! A shutdown whose stores and registry take as long as a test says.

use super::super::*;
use crate::platform::clock::SystemClock;
use crate::player_store::Flushed;

/// A store with so many documents, a journal and a way to the backend that take their time or do not work at all.
pub struct Documents {
    pub is_unanswered: AtomicBool,
    pub log: Log,
    pub left: Mutex<Pending>,
    pub journal: Option<Duration>,
    pub backend: Option<Duration>,
}

pub type Log = Arc<Mutex<Vec<&'static str>>>;

pub const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
pub const NEVER: Option<Duration> = None;

/// Waits for `takes`, at most `within`; whether it got there.
async fn reached(takes: Option<Duration>, within: Duration) -> bool {
    let takes = takes.filter(|takes| *takes <= within);
    tokio::time::sleep(takes.unwrap_or(within)).await;
    takes.is_some()
}

impl Documents {
    pub fn left(&self) -> MutexGuard<'_, Pending> {
        self.left.lock().expect("not poisoned")
    }

    fn say(&self, what: &'static str) {
        self.log.lock().expect("not poisoned").push(what);
    }
}

#[async_trait]
impl Store for Documents {
    fn players(&self) -> usize {
        2
    }

    fn pending(&self) -> Pending {
        *self.left()
    }

    fn awaits_answer(&self) -> bool {
        self.is_unanswered.load(Ordering::SeqCst)
    }

    fn seal(&self) {
        self.say("seal");
    }

    async fn flush_local(&self, within: Duration) -> usize {
        self.say("flush_local");
        if reached(self.journal, within).await {
            let mut left = self.left();
            left.journalled = left.documents;
        }
        let left = self.left();
        left.documents - left.journalled
    }

    async fn flush(&self, within: Duration) -> Flushed {
        self.say("flush");
        let before = self.left().documents;
        if before > 0 && reached(self.backend, within).await {
            let mut left = self.left();
            *left = Pending { may_be_more: left.may_be_more, ..Pending::default() };
        }
        let Pending { documents, journalled, .. } = *self.left();
        Flushed { saved: before - documents, unsaved: documents, journalled, ..Flushed::default() }
    }

    async fn release(&self, within: Duration) -> Flushed {
        self.say("release");
        let before = self.left().documents;
        if before > 0 {
            tokio::time::sleep(within).await;
        }
        Flushed { unsaved: before, ..Flushed::default() }
    }
}

struct Game {
    log: Log,
    stores: Vec<Arc<Documents>>,
    deregisters: Option<Duration>,
}

#[async_trait]
impl Participants for Game {
    fn drain(&self) {
        self.log.lock().expect("not poisoned").push("drain");
    }

    fn stores(&self) -> Vec<Arc<dyn Store>> {
        self.stores.iter().map(|store| Arc::clone(store) as _).collect()
    }

    async fn deregister(&self) -> bool {
        self.log.lock().expect("not poisoned").push("deregister");
        reached(self.deregisters, Duration::MAX / 4).await
    }
}

pub struct Bench {
    pub shutdown: Shutdown,
    pub log: Log,
    pub stores: Vec<Arc<Documents>>,
    pub phases: Arc<Mutex<Vec<Phase>>>,
    pub exits: Arc<Mutex<Vec<(i32, Summary)>>>,
}

/// One store per entry: documents, time to the journal, time to the backend.
pub fn bench(stores: &[(usize, Option<Duration>, Option<Duration>)], deregisters: Option<Duration>) -> Bench {
    let log: Log = Arc::default();
    let store = |&(documents, journal, backend): &(usize, Option<Duration>, Option<Duration>)| {
        let left = Mutex::new(Pending { documents, ..Pending::default() });
        Arc::new(Documents {
            log: Arc::clone(&log),
            left,
            journal,
            backend,
            is_unanswered: AtomicBool::default(),
        })
    };
    let stores: Vec<Arc<Documents>> = stores.iter().map(store).collect();
    let game = Arc::new(Game { log: Arc::clone(&log), stores: stores.clone(), deregisters });
    let phases: Arc<Mutex<Vec<Phase>>> = Arc::default();
    let exits: Arc<Mutex<Vec<(i32, Summary)>>> = Arc::default();
    let (told, exited) = (Arc::clone(&phases), Arc::clone(&exits));
    let shutdown = Shutdown::new(
        Arc::new(SystemClock),
        game,
        Arc::new(move |phase| told.lock().expect("not poisoned").push(phase)),
        Arc::new(move |code, summary: &Summary| {
            exited.lock().expect("not poisoned").push((code, summary.clone()));
        }),
    );
    Bench { shutdown, log, stores, phases, exits }
}

impl Bench {
    pub async fn summary(&self) -> Summary {
        loop {
            if let Some(Phase::Completed(summary)) = self.phases.lock().expect("not poisoned").last() {
                return summary.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn has_reached(&self, phase: &Phase) -> bool {
        self.phases.lock().expect("not poisoned").contains(phase)
    }
}

/// Far beyond what a watchdog thread, which sleeps in real time, sees of a test.
pub const LONG: Duration = Duration::from_secs(3_600);
