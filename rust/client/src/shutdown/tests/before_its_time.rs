//! A process that ends before its shutdown is complete: somebody does not want to wait, or the deadline is there.

use super::super::*;
use super::bench::{AT_ONCE, Bench, Documents, LONG, NEVER, bench};
use crate::platform::clock::SystemClock;

/// A second request, from a thread that is no worker, in real time.
pub async fn cut_short(bench: &Bench) -> Summary {
    let shutdown = bench.shutdown.clone();
    tokio::task::spawn_blocking(move || shutdown.cut_short()).await.expect("joined")
}

async fn sending(bench: &Bench) {
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Sending) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_waits_for_the_journal_and_for_nothing_else() {
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    sending(&bench).await;
    {
        // Handed in late.
        let mut left = bench.stores[0].left();
        left.documents += 1;
    }
    let summary = cut_short(&bench).await;
    assert_eq!(
        (summary.ending, summary.left_in_journal, summary.unsaved),
        (Ending::ForcedBySecondSignal, Some(3), Some(0))
    );
    assert_eq!(summary.exit_code(), EXIT_UNSAVED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_does_not_wait_for_a_stuck_journal() {
    let bench = bench(&[(2, AT_ONCE, NEVER), (1, NEVER, NEVER)], NEVER);
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Journalling) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let summary = cut_short(&bench).await;
    assert_eq!((summary.left_in_journal, summary.unsaved), (Some(2), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_before_the_final_state_is_in_is_no_success() {
    let bench = bench(&[(0, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", LONG);
    let summary = cut_short(&bench).await;
    assert_eq!((summary.ending, summary.exit_code()), (Ending::BeforeCollect, EXIT_UNSAVED));
    let counts = (summary.players, summary.not_collected, summary.left_in_journal, summary.unsaved);
    assert_eq!(counts, (2, Some(2), Some(0), None));
    let line = summary.to_string();
    assert!(line.contains(" not_collected=2 left_in_journal=0 unsaved=unknown "), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_with_all_saved_is_a_success() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], NEVER);
    sending(&bench).await;
    while bench.stores[0].pending().documents > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(cut_short(&bench).await.exit_code(), 0);
}

/// Its main part hangs on a worker, and so do its stores, if asked to.
struct Hung {
    store: Option<Arc<dyn Store>>,
    forever: std::sync::mpsc::Sender<()>,
    wait: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Hung {
    fn new(store: Option<Arc<dyn Store>>) -> Arc<Self> {
        let (forever, wait) = std::sync::mpsc::channel();
        Arc::new(Self { store, forever, wait: Mutex::new(wait) })
    }
}

#[async_trait]
impl Participants for Hung {
    fn drain(&self) {
        // Until the test is over: the sender lives as long as this.
        let _ended = self.wait.lock().expect("not poisoned").recv();
    }

    fn stores(&self) -> Vec<Arc<dyn Store>> {
        self.store.iter().cloned().collect()
    }

    async fn deregister(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_watchdog_keeps_the_deadline_when_the_plan_hangs_and_gives_the_journal_its_last_chance() {
    let store = Arc::new(Documents {
        is_unanswered: AtomicBool::default(),
        log: Arc::default(),
        left: Mutex::new(Pending { documents: 4, ..Pending::default() }),
        journal: AT_ONCE,
        backend: NEVER,
    });
    let hung = Hung::new(Some(store));
    let (exited, told) = std::sync::mpsc::channel();
    let exit: Exit =
        Arc::new(move |code, summary: &Summary| exited.send((code, summary.clone())).expect("listening"));
    let shutdown = Shutdown::new(Arc::new(SystemClock), hung.clone(), Arc::new(|_| {}), exit);
    shutdown.request("SIGTERM", Duration::from_millis(50));
    let told = tokio::task::spawn_blocking(move || told.recv().expect("exits")).await.expect("joined");
    hung.forever.send(()).expect("it waits");
    let (code, summary) = told;
    assert_eq!((code, summary.left_in_journal, summary.unsaved), (EXIT_UNSAVED, Some(4), None));
    assert_eq!((summary.ending, summary.reason.as_str()), (Ending::BeforeCollect, "SIGTERM"));
}

#[test]
fn the_watchdog_needs_no_worker() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let store = Arc::new(Documents {
        is_unanswered: AtomicBool::default(),
        log: Arc::default(),
        left: Mutex::new(Pending { documents: 1, ..Pending::default() }),
        journal: AT_ONCE,
        backend: NEVER,
    });
    let hung = Hung::new(Some(store));
    let (exited, told) = std::sync::mpsc::channel();
    let exit: Exit =
        Arc::new(move |code, summary: &Summary| exited.send((code, summary.clone())).expect("listening"));
    let shutdown = Shutdown::new(Arc::new(SystemClock), hung.clone(), Arc::new(|_| {}), exit);
    {
        let _entered = runtime.enter();
        shutdown.request("SIGTERM", Duration::from_millis(50));
    }
    // The only worker hangs, and nothing is known about the store.
    let told = told.recv().expect("exits");
    hung.forever.send(()).expect("it waits");
    let (code, summary) = told;
    assert_eq!((code, summary.ending), (EXIT_UNSAVED, Ending::NoAnswer));
    let line = summary.to_string();
    let unknown = "refused=unknown not_collected=unknown left_in_journal=unknown unsaved=unknown";
    assert!(line.contains(unknown), "{line}");
}
