//! The shutdown's order and its deadlines.

use super::*;
use crate::clock::SystemClock;

struct Game {
    log: Mutex<Vec<&'static str>>,
    unsaved: usize,
    flush_takes: Duration,
}

#[async_trait]
impl Participants for Game {
    fn drain(&self) {
        self.log.lock().expect("not poisoned").push("drain");
    }

    async fn flush(&self, within: Duration) -> Flushed {
        tokio::time::sleep(self.flush_takes.min(within)).await;
        self.log.lock().expect("not poisoned").push("flush");
        Flushed { saved: 3, unsaved: self.unsaved }
    }

    async fn deregister(&self) -> bool {
        self.log.lock().expect("not poisoned").push("deregister");
        true
    }
}

struct Bench {
    shutdown: Shutdown,
    game: Arc<Game>,
    phases: Arc<Mutex<Vec<Phase>>>,
    exits: Arc<Mutex<Vec<i32>>>,
}

fn bench(unsaved: usize, flush_takes: Duration) -> Bench {
    let game = Arc::new(Game { log: Mutex::default(), unsaved, flush_takes });
    let phases: Arc<Mutex<Vec<Phase>>> = Arc::default();
    let exits: Arc<Mutex<Vec<i32>>> = Arc::default();
    let (told, exited) = (Arc::clone(&phases), Arc::clone(&exits));
    let shutdown = Shutdown::new(
        Arc::new(SystemClock),
        game.clone(),
        Arc::new(move |phase| told.lock().expect("not poisoned").push(phase)),
        Arc::new(move |code| exited.lock().expect("not poisoned").push(code)),
    );
    Bench { shutdown, game, phases, exits }
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
}

#[tokio::test(start_paused = true)]
async fn everything_happens_once_and_in_order() {
    let bench = bench(0, Duration::ZERO);
    assert!(bench.shutdown.request("SIGTERM", Duration::from_secs(3_600)));
    assert!(!bench.shutdown.request("SIGTERM", Duration::from_secs(3_600)), "once");
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.saved, summary.unsaved, summary.deregistered, summary.exit_code()), (3, 0, true, 0));
    assert_eq!(*bench.game.log.lock().expect("not poisoned"), ["drain", "flush", "deregister"]);
    {
        let phases = bench.phases.lock().expect("not poisoned");
        assert!(matches!(
            phases[..],
            [
                Phase::Draining(..),
                Phase::Collecting,
                Phase::Flushing,
                Phase::Deregistering,
                Phase::Completed(_)
            ]
        ));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bench.exits.lock().expect("not poisoned").is_empty(), "the main thread leaves by itself");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_main_thread_holds_up_nothing() {
    let bench = bench(0, Duration::ZERO);
    bench.shutdown.request("SIGTERM", Duration::from_secs(3_600));
    assert!(bench.summary().await.collect <= COLLECT + Duration::from_millis(1));
    while bench.exits.lock().expect("not poisoned").is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*bench.exits.lock().expect("not poisoned"), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_uses_its_share_and_no_more() {
    let bench = bench(2, Duration::MAX / 4);
    bench.shutdown.request("SIGTERM", Duration::from_secs(100));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.unsaved, summary.exit_code()), (2, EXIT_UNSAVED));
    assert!(summary.flush <= Duration::from_secs(81) && summary.total <= Duration::from_secs(96));
}

#[tokio::test]
async fn the_watchdog_keeps_the_deadline_when_the_plan_hangs() {
    struct Hung;
    #[async_trait]
    impl Participants for Hung {
        fn drain(&self) {}
        async fn flush(&self, _within: Duration) -> Flushed {
            std::future::pending().await
        }
        async fn deregister(&self) -> bool {
            false
        }
    }
    let (exited, told) = std::sync::mpsc::channel();
    let exit: Exit = Arc::new(move |code| exited.send(code).expect("listening"));
    let shutdown = Shutdown::new(Arc::new(SystemClock), Arc::new(Hung), Arc::new(|_| {}), exit);
    shutdown.request("SIGTERM", Duration::from_millis(50));
    let code = tokio::task::spawn_blocking(move || told.recv().expect("exits")).await.expect("joined");
    assert_eq!(code, EXIT_UNSAVED);
}
