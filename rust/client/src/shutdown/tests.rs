//! The shutdown's order, its deadlines, and what it says about where everything is.

use super::*;
use crate::platform::clock::SystemClock;

/// A store with so many documents, a journal and a way to the backend that take their time or do not work at all.
struct Documents {
    is_unanswered: AtomicBool,
    log: Log,
    left: Mutex<Pending>,
    journal: Option<Duration>,
    backend: Option<Duration>,
}

type Log = Arc<Mutex<Vec<&'static str>>>;

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
const NEVER: Option<Duration> = None;

/// Waits for `takes`, at most `within`; whether it got there.
async fn reached(takes: Option<Duration>, within: Duration) -> bool {
    let takes = takes.filter(|takes| *takes <= within);
    tokio::time::sleep(takes.unwrap_or(within)).await;
    takes.is_some()
}

impl Documents {
    fn left(&self) -> MutexGuard<'_, Pending> {
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

struct Bench {
    shutdown: Shutdown,
    log: Log,
    stores: Vec<Arc<Documents>>,
    phases: Arc<Mutex<Vec<Phase>>>,
    exits: Arc<Mutex<Vec<(i32, Summary)>>>,
}

/// One store per entry: documents, time to the journal, time to the backend.
fn bench(stores: &[(usize, Option<Duration>, Option<Duration>)], deregisters: Option<Duration>) -> Bench {
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
    async fn summary(&self) -> Summary {
        loop {
            if let Some(Phase::Completed(summary)) = self.phases.lock().expect("not poisoned").last() {
                return summary.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn has_reached(&self, phase: &Phase) -> bool {
        self.phases.lock().expect("not poisoned").contains(phase)
    }
}

/// Far beyond what a watchdog thread, which sleeps in real time, sees of a test.
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn everything_happens_once_and_in_order() {
    let bench = bench(&[(3, AT_ONCE, AT_ONCE)], AT_ONCE);
    assert!(bench.shutdown.request("SIGTERM", LONG));
    assert!(!bench.shutdown.request("SIGINT", LONG), "once");
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    let instantly = Summary {
        reason: "SIGTERM".to_owned(),
        players: 2,
        saved_locally: 3,
        saved: 3,
        refused: Some(0),
        not_collected: Some(0),
        left_in_journal: Some(0),
        unsaved: Some(0),
        deregistered: true,
        ..Summary::default()
    };
    assert_eq!((summary.exit_code(), summary), (0, instantly));
    assert_eq!(
        *bench.log.lock().expect("not poisoned"),
        ["drain", "seal", "flush_local", "flush", "seal", "release", "deregister"]
    );
    {
        let phases = bench.phases.lock().expect("not poisoned");
        assert!(
            matches!(
                &phases[..],
                [
                    Phase::Draining(reason, LONG),
                    Phase::Collecting,
                    Phase::Journalling,
                    Phase::Sending,
                    Phase::Releasing,
                    Phase::Completed(_)
                ] if reason == "SIGTERM"
            ),
            "{phases:?}"
        );
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bench.exits.lock().expect("not poisoned").is_empty(), "the main thread leaves by itself");
}

#[tokio::test(start_paused = true)]
async fn each_phase_is_timed() {
    let seconds = |count| Some(Duration::from_secs(count));
    let bench = bench(&[(1, seconds(3), seconds(4))], seconds(5));
    bench.shutdown.request("SIGTERM", LONG);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    let phases = [summary.collect, summary.journal, summary.send, summary.release, summary.total];
    assert_eq!(phases.map(|phase| phase.as_secs()), [1, 3, 4, 5, 13]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_main_thread_holds_up_nothing() {
    let bench = bench(&[(3, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", LONG);
    let summary = bench.summary().await;
    assert_eq!((summary.collect.as_secs(), summary.saved, summary.unsaved), (COLLECT.as_secs(), 3, None));
    assert_eq!((summary.not_collected, summary.left_in_journal), (Some(2), Some(0)));
    while bench.exits.lock().expect("not poisoned").is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What the game did not hand in is not known.
    assert_eq!(*bench.exits.lock().expect("not poisoned"), [(EXIT_UNSAVED, summary)]);
}

#[tokio::test(start_paused = true)]
async fn a_main_thread_that_left_early_is_waited_for_by_nobody() {
    let bench = bench(&[(3, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.abandoned();
    let summary = bench.summary().await;
    assert_eq!((summary.collect, summary.saved, summary.unsaved), (Duration::ZERO, 3, Some(0)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(*bench.exits.lock().expect("not poisoned"), [(0, summary)]);
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_releases_got_no_answer_stays_on_the_list() {
    let bench = bench(&[(1, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.stores[0].is_unanswered.store(true, Ordering::SeqCst);
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    // It has no more to send. Leaving would release its players without the question whether the backend still has all.
    assert_eq!((summary.exit_code(), summary.deregistered), (0, false));
    assert_eq!(bench.log.lock().expect("not poisoned").last(), Some(&"release"));
}

#[tokio::test(start_paused = true)]
async fn a_short_grace_gives_the_game_less_time() {
    let bench = bench(&[], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(5));
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!(summary.collect.as_millis(), 1_500);
}

#[tokio::test(start_paused = true)]
async fn with_the_backend_away_everything_is_left_in_the_journal_in_time() {
    let grace = Duration::from_secs(100);
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    bench.shutdown.request("SIGTERM", grace);
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.saved_locally, summary.saved), (2, 0));
    assert_eq!((summary.left_in_journal, summary.unsaved, summary.deregistered), (Some(2), Some(0), false));
    assert_eq!(summary.exit_code(), EXIT_UNSAVED);
    let log = bench.log.lock().expect("not poisoned");
    assert_eq!(
        log.last(),
        Some(&"release"),
        "no lease ends before what the journal has of its player is sent"
    );
    assert_eq!([summary.send, summary.release, summary.total].map(|phase| phase.as_secs()), [80, 5, 85]);
}

#[tokio::test(start_paused = true)]
async fn without_a_journal_the_backend_still_gets_everything() {
    let bench = bench(&[(2, NEVER, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(100));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.saved_locally, summary.saved, summary.unsaved), (0, 2, Some(0)));
    assert_eq!((summary.journal.as_secs(), summary.exit_code()), (25, 0));
}

#[tokio::test(start_paused = true)]
async fn with_neither_journal_nor_backend_the_documents_are_called_lost() {
    let bench = bench(&[(2, NEVER, NEVER)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(100));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.left_in_journal, summary.unsaved), (Some(0), Some(2)));
    assert_eq!((summary.exit_code(), summary.total.as_secs()), (EXIT_UNSAVED, 85));
    assert!(summary.to_string().ends_with("(2 documents are lost)"), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_takes_nothing_from_the_others() {
    let bench = bench(&[(1, NEVER, NEVER), (5, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(100));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.players, summary.saved_locally, summary.saved, summary.unsaved), (4, 5, 5, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_the_journal_is_written_counts_as_saved() {
    let bench = bench(&[(3, Some(Duration::from_secs(2)), AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Journalling) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.stores[0].left().documents -= 1;
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.saved_locally, summary.saved, summary.unsaved), (3, 3, Some(0)));
}

#[test]
fn the_log_line_says_it_all() {
    let ms = Duration::from_millis;
    let summary = Summary {
        ending: Ending::Complete,
        reason: "SIGTERM".to_owned(),
        players: 5,
        saved_locally: 9,
        saved: 6,
        conflicted: 1,
        refused: Some(3),
        not_collected: Some(0),
        left_in_journal: Some(2),
        unsaved: Some(0),
        deregistered: true,
        collect: ms(1),
        journal: ms(2),
        send: ms(3),
        release: ms(4),
        total: ms(10),
    };
    assert_eq!(
        summary.to_string(),
        "shutdown complete reason=SIGTERM players=5 saved_locally=9 saved=6 conflicted=1 refused=3 not_collected=0 \
         left_in_journal=2 unsaved=0 deregistered=true collect_ms=1 journal_ms=2 send_ms=3 release_ms=4 total_ms=10 (2 documents are safe in the \
         journal and sent at the next start)"
    );
}

/// A second request, from a thread that is no worker, in real time.
async fn cut_short(bench: &Bench) -> Summary {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_main_thread_that_hangs_on_its_way_out_is_ended_at_the_deadline() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_millis(200));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    while bench.exits.lock().expect("not poisoned").is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((summary.ending, summary.saved), (Ending::Complete, 2));
    assert_eq!(*bench.exits.lock().expect("not poisoned"), [(0, summary)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_goes_on_has_no_deadline() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    let grace = Duration::from_millis(200);
    bench.shutdown.request("SIGTERM", grace);
    bench.shutdown.collected();
    bench.summary().await;
    let shutdown = bench.shutdown.clone();
    tokio::task::spawn_blocking(move || shutdown.stay()).await.expect("joined");
    let threads = bench.shutdown.0.alarms().len();
    assert_eq!(threads, 0);
    tokio::time::sleep(grace * 2).await;
    assert!(bench.exits.lock().expect("not poisoned").is_empty());
}

async fn collected_and_sending(bench: &Bench) {
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Sending) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_within_two_seconds_changes_nothing() {
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    let ask = |reason| bench.shutdown.request_from_outside(reason, LONG);
    assert_eq!(ask("SIGTERM"), Response::Started);
    // GNU timeout, process groups, supervisors: the same signal, or another one, milliseconds later.
    assert_eq!([ask("SIGTERM"), ask("SIGHUP")], [Response::Joined; 2]);
    collected_and_sending(&bench).await;
    assert_eq!(ask("SIGTERM"), Response::Joined);
    tokio::time::sleep(SAME_REQUEST.saturating_sub(Duration::from_millis(100))).await;
    assert_eq!(ask("window_closed"), Response::Joined);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ask("SIGTERM"), Response::ForceExit, "counted from the first");
    bench.shutdown.abandoned();
}

#[tokio::test(start_paused = true)]
async fn the_same_request_before_the_final_state_is_in_changes_nothing() {
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Started);
    // The plan has no turn in between: as far as it knows, the game is still collecting.
    tokio::time::advance(SAME_REQUEST + Duration::from_secs(1)).await;
    assert!(!bench.shutdown.0.so_far().collected, "the test is about what comes before");
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Joined);
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_after_a_request_of_the_game_is_no_second_one() {
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    assert!(bench.shutdown.request("drain_requested", LONG));
    collected_and_sending(&bench).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Joined);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Joined);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::ForceExit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_after_the_game_went_on_counts_what_came_since() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("maintenance", LONG);
    bench.shutdown.collected();
    assert_eq!(bench.summary().await.exit_code(), 0);
    let shutdown = bench.shutdown.clone();
    tokio::task::spawn_blocking(move || shutdown.stay()).await.expect("joined");
    bench.stores[0].left().documents = 5;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::ForceExit);
    let summary = cut_short(&bench).await;
    assert_eq!((summary.left_in_journal, summary.exit_code()), (Some(5), EXIT_UNSAVED));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_may_have_left_is_not_called_nothing() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.stores[0].left().may_be_more = true;
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    let counts = (summary.saved, summary.left_in_journal, summary.unsaved, summary.exit_code());
    assert_eq!(counts, (2, None, Some(0), EXIT_UNSAVED));
    assert!(summary.to_string().contains(" left_in_journal=unknown unsaved=0 "), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_moves_forward_is_kept() {
    let bench = bench(&[(3, AT_ONCE, NEVER)], AT_ONCE);
    assert!(!bench.shutdown.hasten(LONG), "nothing has begun");
    bench.shutdown.request("notice", LONG);
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Sending) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!bench.shutdown.hasten(LONG * 2), "later is not sooner");
    assert!(bench.shutdown.hasten(LONG / 4));
    assert!(bench.shutdown.hasten(LONG / 8));
    assert!(!bench.shutdown.hasten(LONG / 4));
    let summary = bench.summary().await;
    assert!(summary.total <= LONG / 8, "{summary}");
    assert_eq!(summary.left_in_journal, Some(3));
    assert!(!bench.shutdown.hasten(Duration::from_secs(1)), "it is over");
    bench.shutdown.leaving();
}
