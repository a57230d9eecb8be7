//! Games that save without a pause: no flush, no release and no shutdown waits for what was saved after it was asked for.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use backend_simulation::Trouble;
use tokio::time::Instant;

use super::*;

/// A game that saves a player's document at 60 frames a second, as long as it is allowed to.
struct Game {
    stop: Arc<AtomicBool>,
    newest: Arc<AtomicI64>,
    refused: Arc<Mutex<Vec<&'static str>>>,
}

impl Game {
    fn saving(store: &PlayerStore, players: Vec<String>) -> Self {
        let (stop, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let refused: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let game = Self { stop: stop.clone(), newest: newest.clone(), refused: refused.clone() };
        let store = store.clone();
        tokio::spawn(async move {
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                for player in &players {
                    match store.save(player, "progress", content(number)) {
                        Ok(_) => newest.store(number, Ordering::Relaxed),
                        Err(error) => refused.lock().expect("not poisoned").push(error.code()),
                    }
                }
                tokio::time::sleep(Duration::from_millis(16)).await;
            }
        });
        game
    }

    fn refused(&self) -> Vec<&'static str> {
        self.refused.lock().expect("not poisoned").clone()
    }

    fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A server whose calls take 100 ms, and whose game saves these players at each frame.
async fn busy(players: usize) -> (Arc<SimulatedBackend>, Server, Game, Vec<String>) {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    let players: Vec<String> = (0..players).map(|number| format!("p{number:03}")).collect();
    for player in &players {
        server.load(player).await;
    }
    backend.set_outage(Some(Trouble::LateReply(Duration::from_millis(100))));
    let game = Game::saving(&server.store, players.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    (backend, server, game, players)
}

fn stored_number(backend: &SimulatedBackend, player: &str) -> i64 {
    stored(backend, player, "progress").and_then(|value| value["n"].as_i64()).unwrap_or(0)
}

fn holders(backend: &SimulatedBackend) -> usize {
    let state = backend.state.lock().expect("not poisoned");
    state.leases.values().filter(|lease| lease.holder.is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_what_was_unsaved_when_it_was_called() {
    let (backend, server, game, players) = busy(3).await;
    let (begun, before) = (Instant::now(), game.newest());
    let flushed = server.store.flush(None, LONG).await;
    assert_eq!(flushed, all_saved(3));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for player in &players {
        assert!(stored_number(&backend, player) >= before);
    }
    assert_eq!(server.store.save_now("p001", LONG).await.expect("saved"), all_saved(1));
    assert_eq!(server.store.flush_local(LONG).await, 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_kept_from_being_sent_by_those_who_save_all_the_time() {
    // Three batches: the first hundred names are unsent again before the others had their turn.
    let (backend, server, game, players) = busy(250).await;
    let (begun, before) = (Instant::now(), game.newest());
    assert_eq!(server.store.flush(None, LONG).await, all_saved(250));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    for player in &players {
        assert!(stored_number(&backend, player) >= before, "{player}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_player_is_released_while_the_game_goes_on_saving() {
    let (backend, server, game, _players) = busy(150).await;
    let (begun, before) = (Instant::now(), game.newest());
    assert_eq!(server.store.release("p149", LONG).await, Flushed { refused: 1, ..all_saved(1) });
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(stored_number(&backend, "p149") >= before);
    assert_eq!(backend.state.lock().expect("not poisoned").leases["p149"].holder, None);
    assert_eq!(holders(&backend), 149, "the others stay");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(game.refused().iter().all(|code| *code == "not_loaded") && !game.refused().is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_the_last_collect_everybody_is_final_and_let_go() {
    let (backend, server, game, players) = busy(250).await;
    let (begun, before) = (Instant::now(), game.newest());
    server.store.seal();
    assert_eq!(server.store.flush(None, LONG).await.unsaved, 0);
    assert_eq!(server.store.release_all(LONG).await.unsaved, 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((server.store.player_count(), server.store.pending_count(), holders(&backend)), (0, 0, 0));
    for player in &players {
        assert_eq!(stored_number(&backend, player), before, "{player}");
    }
    let refused = game.refused();
    assert!(refused.iter().all(|code| *code == "shutting_down") && !refused.is_empty());
    assert_eq!(server.store.refused_count(), refused.len());
    assert_eq!(server.store.load("eve", LONG).await.expect_err("too late").code(), "cancelled");
    // The shutdown is over, and the game goes on.
    server.store.unseal();
    server.load("p000").await;
    server.save("p000", 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn each_player_is_let_go_when_the_own_last_save_is_in() {
    let (backend, server, game, _players) = busy(250).await;
    server.store.seal();
    let is_halfway = || (1..250).contains(&holders(&backend));
    until(is_halfway).await;
    drop(game);
    until(|| holders(&backend) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_player_stays_held_only_for_what_is_in_the_journal() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    server.load("eve").await;
    server.save("ada", 1);
    assert_eq!(server.store.flush_local(LONG).await, 0);
    server.disk.lock().trouble = Some(backend_simulation::DiskTrouble::Full);
    server.save("eve", 1);
    // No save gets through, everything else does.
    backend.state.lock().expect("not poisoned").refuses_saves = true;
    server.store.seal();
    let flushed = server.store.release_all(Duration::from_secs(3)).await;
    assert_eq!((flushed.unsaved, flushed.journalled), (2, 1));
    until(|| holders(&backend) == 1).await;
    assert!(backend.state.lock().expect("not poisoned").leases["ada"].holder.is_some());
}
