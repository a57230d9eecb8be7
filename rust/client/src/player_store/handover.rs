//! What heartbeats request of the store: players that another server waits for are saved and released, conflicts are announced, and what
//! a backend has lost is sent again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use backend_protocol::player_store::LoadPlayers;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Event, Inner, PlayerStore};
use crate::registration::Notice;

/// Time the game has to save the final state of a player that another server waits for.
const FINAL_SAVE_DELAY: Duration = Duration::from_secs(2);
/// Longest time such a player is flushed before the attempt is given up; the lease is let go when it succeeds later.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Follows what heartbeats ask of the store.
pub(super) async fn listen(store: Weak<Inner>, mut notices: broadcast::Receiver<Notice>) {
    loop {
        let notice = match notices.recv().await {
            Ok(notice) => notice,
            // The next heartbeat says it again.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Some(inner) = store.upgrade() else { return };
        match notice {
            Notice::Wanted(players) => wanted(&inner, players),
            Notice::Listed => {
                inner.wake_journal.notify_one();
                inner.wake_sender.notify_one();
            }
            Notice::Answers => {
                inner.lock().answers = true;
                inner.wake_sender.notify_one();
            }
            Notice::RolledBack => {
                if inner.is_at_its_backend() {
                    let is_news = inner.lock().reported_rollback(inner.clock.now());
                    inner.tell(is_news.then_some(Event::RollbackDetected));
                    inner.wake_journal.notify_one();
                    inner.wake_sender.notify_one();
                }
            }
            Notice::ListedAgain(before) => {
                let is_ours = inner.is_at_its_backend();
                // A backend keeps the id of a server that holds players: it has lost it, and with it what it had confirmed.
                let has_lost = before.is_some() && is_ours && inner.lock().holds_anybody();
                let is_news = has_lost && inner.lock().reported_rollback(inner.clock.now());
                inner.tell(is_news.then_some(Event::RollbackDetected));
                {
                    let mut state = inner.lock();
                    // Its leases are of no use to anybody, once all that was saved under them has arrived. The journal may not know
                    // the id: players are loaded although it has failed.
                    state.own_ids.extend(before.clone());
                    state.predecessors.extend(before);
                    if is_ours {
                        state.resend_all(inner.clock.now());
                    }
                }
                inner.wake_journal.notify_one();
                inner.wake_sender.notify_one();
            }
            Notice::Conflicts(players) => {
                for player_id in players {
                    let ours = inner.lock().players.get(&*player_id).is_some_and(|player| !player.lost);
                    if !ours {
                        continue;
                    }
                    match inner.backend.player_conflicts(inner.registration.key(), &player_id).await {
                        Ok(reply) => inner.announce(reply.conflicts),
                        // The next heartbeat says it again.
                        Err(error) => tracing::debug!(code = error.code(), "conflicts not read: {error}"),
                    }
                }
            }
        }
    }
}

/// Another server waits for these players.
pub(super) fn wanted(inner: &Arc<Inner>, players: Vec<String>) {
    for player_id in players {
        let known = {
            let mut state = inner.lock();
            let on_its_way = state.loading.contains_key(&*player_id)
                || state.releases.contains_key(&*player_id)
                || state.releasing.contains(&*player_id);
            if on_its_way || !state.wanted.insert(player_id.as_str().into()) {
                continue;
            }
            state.players.get(&*player_id).is_some_and(|player| !player.lost)
        };
        let store = Arc::downgrade(inner);
        if known {
            inner.tell([Event::PlayerWanted { player_id: player_id.clone() }]);
            tokio::spawn(hand_over(store, player_id));
        } else {
            tokio::spawn(release_unknown(store, player_id));
        }
    }
}

async fn hand_over(store: Weak<Inner>, player_id: String) {
    let Some(clock) = store.upgrade().map(|inner| Arc::clone(&inner.clock)) else { return };
    clock.sleep(FINAL_SAVE_DELAY).await;
    let Some(inner) = store.upgrade() else { return };
    let still = inner.lock().wanted.contains(&*player_id);
    if still {
        PlayerStore(inner).release(&player_id, HANDOVER_TIMEOUT).await;
    }
}

/// The backend thinks that this server holds the player: the reply to a load was lost. Asking again tells the epoch.
async fn release_unknown(store: Weak<Inner>, player_id: String) {
    let Some(inner) = store.upgrade() else { return };
    let Ok(server_id) = inner.server_id() else { return };
    let body = LoadPlayers { server_id, player_ids: vec![player_id.clone()] };
    let reply = inner.backend.load_players(inner.registration.key(), &body).await;
    {
        let mut state = inner.lock();
        let found = reply
            .ok()
            .and_then(|reply| reply.players.into_iter().find(|player| player.player_id == player_id));
        // One that was lost is held under an epoch that nobody here knows of.
        let known = state.players.get(&*player_id).is_some_and(|player| !player.lost);
        let ours = known || state.loading.contains_key(&*player_id);
        match found {
            Some(found) if !ours => {
                state.release_lease(player_id, found.epoch);
            }
            _ => {
                state.wanted.remove(&*player_id);
            }
        }
    }
    inner.wake_sender.notify_one();
}
