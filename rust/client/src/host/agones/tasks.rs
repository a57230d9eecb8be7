//! What to ask the sidecar for: the difference between what is wanted and what is seen.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::game_server::{GameServer, SDK_PREFIX, Stage};
use super::sidecar::SidecarError;
use super::{Agones, Seen, Wanted, lock};

/// Annotation with the id under which the server is listed at the backend.
const SERVER_ID: &str = "server-id";
/// Label of a server that is leaving.
const DRAINING: &str = "draining";
/// Key of the list and of the counter of players.
const PLAYERS: &str = "players";
/// Time that the watch has to show what was asked for, before it is asked for again; doubled with each repetition.
const MIN_CONFIRMATION: Duration = Duration::from_secs(2);
const MAX_CONFIRMATION: Duration = Duration::from_secs(15);
/// Shortest time between two changes of players. The sidecar writes such changes in batches, and one that overtakes a batch
/// replaces what is waiting in it.
const PLAYERS_INTERVAL: Duration = Duration::from_secs(1);
/// Pauses after calls that failed.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Annotate(String),
    Ready,
    Allocate,
    /// The session that the server had given itself is over.
    ReadyAgain,
    LabelDraining,
    SetCounter {
        count: u32,
        capacity: u32,
    },
    SetList {
        /// `None`: as it is.
        capacity: Option<u32>,
        values: Vec<String>,
    },
}

impl Task {
    fn is_about_players(&self) -> bool {
        matches!(self, Self::SetCounter { .. } | Self::SetList { .. })
    }
}

/// What cannot be done with this sidecar.
#[derive(Debug, Default)]
struct Limits {
    no_counters: bool,
    no_lists: bool,
    /// The sidecar takes no capacity above the one that the list called `players` was declared with.
    keeps_list_capacity: bool,
    /// Refused as they are. Of those about players the last one.
    refused: Vec<Task>,
}

impl Agones {
    /// Asks for what is wanted and not seen, for as long as it is not.
    pub(super) async fn perform_tasks(&self) {
        let mut limits = Limits::default();
        let mut asked: Option<(Task, Instant, Duration)> = None;
        let mut players_due = Instant::now();
        let mut pause = MIN_PAUSE;
        loop {
            let task = next_task(&lock(&self.wanted), &lock(&self.seen), &limits);
            let Some(task) = task else {
                asked = None;
                self.changed.notified().await;
                continue;
            };
            let repetition = asked.as_ref().filter(|(before, ..)| *before == task);
            let due = repetition.map(|(_, at, confirmation)| *at + *confirmation);
            let due = due.into_iter().chain(task.is_about_players().then_some(players_due)).max();
            if due.is_some_and(|due| due > Instant::now()) {
                // Changed or not, the next look shows what is due.
                let _until = timeout_at(due.unwrap_or(players_due), self.changed.notified()).await;
                continue;
            }
            let confirmation =
                repetition.map_or(MIN_CONFIRMATION, |(.., before)| (*before * 2).min(MAX_CONFIRMATION));
            let outcome = {
                let _one_at_a_time = self.calling.lock().await;
                if lock(&self.wanted).stopped {
                    continue;
                }
                self.perform(&task).await
            };
            match outcome {
                Ok(()) => {
                    pause = MIN_PAUSE;
                    if task.is_about_players() {
                        players_due = Instant::now() + PLAYERS_INTERVAL;
                    }
                    asked = Some((task, Instant::now(), confirmation));
                }
                Err(error) if limits.note(&task, &error) => {}
                Err(error) => {
                    tracing::debug!(?task, %error, "Agones is asked again");
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    async fn perform(&self, task: &Task) -> Result<(), SidecarError> {
        match task {
            Task::Annotate(server_id) => self.sidecar.set_annotation(SERVER_ID, server_id).await,
            Task::Ready | Task::ReadyAgain => self.sidecar.ready().await,
            Task::Allocate => {
                {
                    // Before the call, because the watch may be quicker than its answer.
                    let mut seen = lock(&self.seen);
                    seen.own_request = seen.game_server.as_ref().map(GameServer::metadata_of_others);
                }
                let outcome = self.sidecar.allocate().await;
                if matches!(outcome, Err(SidecarError::Refused { .. } | SidecarError::Unsupported(_))) {
                    lock(&self.seen).own_request = None;
                }
                outcome
            }
            Task::LabelDraining => self.sidecar.set_label(DRAINING, "true").await,
            Task::SetCounter { count, capacity } => {
                self.sidecar.set_counter(PLAYERS, *count, *capacity).await
            }
            Task::SetList { capacity, values } => {
                // Two calls would be one: the sidecar writes in batches, and the second replaces the first in its batch.
                self.sidecar.set_list(PLAYERS, *capacity, values).await
            }
        }
    }
}

impl Limits {
    /// Whether the task is not to be repeated.
    fn note(&mut self, task: &Task, error: &SidecarError) -> bool {
        let is_unsupported = match error {
            SidecarError::Unsupported(_) => true,
            SidecarError::Refused { .. } => false,
            SidecarError::Unreachable(_) | SidecarError::Garbage(_) => return false,
        };
        match task {
            // Without these it is no server of Agones.
            Task::Ready | Task::Allocate | Task::ReadyAgain => return false,
            Task::SetList { .. } if is_unsupported => self.no_lists = true,
            Task::SetCounter { .. } if is_unsupported => self.no_counters = true,
            Task::SetList { capacity: Some(_), .. } => self.keeps_list_capacity = true,
            Task::SetList { .. } | Task::SetCounter { .. } => {
                self.refused.retain(|before| !before.is_about_players());
                self.refused.push(task.clone());
            }
            Task::Annotate(_) | Task::LabelDraining => self.refused.push(task.clone()),
        }
        tracing::warn!("Agones does not know everything about this server: {error}");
        true
    }
}

/// What is to be asked for now; `None` if everything is as it should be, or nothing is known yet.
fn next_task(wanted: &Wanted, seen: &Seen, limits: &Limits) -> Option<Task> {
    let game_server = seen.game_server.as_ref()?;
    let stage = game_server.stage();
    if wanted.stopped || matches!(stage, Stage::Leaving(_)) {
        return None;
    }
    let is_possible = |task: &Task| !limits.refused.contains(task);
    let meta = &game_server.object_meta;
    let annotation = wanted
        .server_id
        .as_ref()
        .filter(|server_id| meta.annotations.get(&format!("{SDK_PREFIX}{SERVER_ID}")) != Some(*server_id));
    if let Some(task) = annotation.cloned().map(Task::Annotate).filter(is_possible) {
        return Some(task);
    }
    if wanted.draining {
        let is_labelled = meta.labels.get(&format!("{SDK_PREFIX}{DRAINING}")).is_some_and(|is| is == "true");
        return (!is_labelled).then_some(Task::LabelDraining).filter(is_possible);
    }
    let is_used = wanted.players.count > 0;
    let change_of_state = match stage {
        Stage::Starting => wanted.server_id.is_some().then_some(Task::Ready),
        Stage::Ready => is_used.then_some(Task::Allocate),
        Stage::Allocated => (seen.is_own_allocation && !is_used).then_some(Task::ReadyAgain),
        Stage::RequestReady | Stage::Reserved | Stage::Unknown | Stage::Leaving(_) => None,
    };
    change_of_state.or_else(|| players_task(wanted, game_server, limits))
}

fn players_task(wanted: &Wanted, game_server: &GameServer, limits: &Limits) -> Option<Task> {
    let players = &wanted.players;
    // Before the server has said how many it takes, there is nothing to say.
    let capacity = Some(players.capacity).filter(|capacity| *capacity > 0)?;
    let list = game_server.status.lists.get(PLAYERS).filter(|_| !limits.no_lists);
    let list_task = list.and_then(|list| {
        let capacity = Some(capacity).filter(|_| !limits.keeps_list_capacity);
        let room = capacity.map_or(list.capacity, i64::from);
        let values = players.ids.iter().take(usize::try_from(room).unwrap_or_default());
        let values: Vec<String> = values.cloned().collect();
        let mut shown = list.values.clone();
        let mut sorted = values.clone();
        shown.sort_unstable();
        sorted.sort_unstable();
        let is_same = list.capacity == room && shown == sorted;
        (!is_same).then_some(Task::SetList { capacity, values })
    });
    let counter = game_server.status.counters.get(PLAYERS).filter(|_| !limits.no_counters);
    let counter_task = counter.and_then(|counter| {
        let count = players.count.min(capacity);
        let is_same = (counter.count, counter.capacity) == (i64::from(count), i64::from(capacity));
        (!is_same).then_some(Task::SetCounter { count, capacity })
    });
    list_task.into_iter().chain(counter_task).find(|task| !limits.refused.contains(task))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Players;

    fn seen(json: &str) -> Seen {
        Seen { game_server: serde_json::from_str(json).ok(), ..Seen::default() }
    }

    fn listed(players: u32) -> Wanted {
        let ids = (0..players).map(|number| format!("p{number}")).collect();
        Wanted {
            server_id: Some("s1".to_owned()),
            players: Players { count: players, capacity: 8, ids },
            ..Wanted::default()
        }
    }

    fn next(wanted: &Wanted, seen: &Seen) -> Option<Task> {
        next_task(wanted, seen, &Limits::default())
    }

    const ANNOTATED: &str = r#""object_meta":{"annotations":{"agones.dev/sdk-server-id":"s1"}}"#;

    fn in_state(state: &str) -> Seen {
        seen(&format!(r#"{{{ANNOTATED},"status":{{"state":"{state}"}}}}"#))
    }

    #[test]
    fn nothing_is_asked_of_a_sidecar_that_was_not_heard_of() {
        assert_eq!(next(&listed(3), &Seen::default()), None);
    }

    #[test]
    fn a_listed_server_is_named_and_then_made_ready() {
        let fresh = seen(r#"{"status":{"state":"Scheduled"}}"#);
        assert_eq!(next(&Wanted::default(), &fresh), None);
        assert_eq!(next(&listed(0), &fresh), Some(Task::Annotate("s1".to_owned())));
        assert_eq!(next(&listed(0), &in_state("Scheduled")), Some(Task::Ready));
        assert_eq!(next(&listed(0), &in_state("RequestReady")), None);
    }

    #[test]
    fn an_allocated_server_is_never_made_ready_by_a_restart() {
        assert_eq!(next(&listed(0), &in_state("Allocated")), None);
    }

    #[test]
    fn players_keep_a_server_that_nobody_allocated() {
        assert_eq!(next(&listed(1), &in_state("Ready")), Some(Task::Allocate));
        let own = Seen { is_own_allocation: true, ..in_state("Allocated") };
        assert_eq!(next(&listed(1), &own), None);
        assert_eq!(next(&listed(0), &own), Some(Task::ReadyAgain));
    }

    #[test]
    fn a_server_that_leaves_changes_no_state() {
        let draining = Wanted { draining: true, ..listed(1) };
        assert_eq!(next(&draining, &in_state("Ready")), Some(Task::LabelDraining));
        for state in ["Shutdown", "Unhealthy", "Error"] {
            assert_eq!(next(&draining, &in_state(state)), None, "{state}");
        }
        let stopped = Wanted { stopped: true, ..listed(1) };
        assert_eq!(next(&stopped, &in_state("Ready")), None);
    }

    #[test]
    fn players_go_where_they_are_declared() {
        let allocated =
            |status: &str| seen(&format!(r#"{{{ANNOTATED},"status":{{"state":"Allocated",{status}}}}}"#));
        let lists = r#""lists":{"players":{"capacity":"4","values":["p1"]}}"#;
        let counters = r#""counters":{"players":{"count":"0","capacity":"8"}}"#;
        let list = Task::SetList { capacity: Some(8), values: vec!["p0".to_owned(), "p1".to_owned()] };
        let counter = Task::SetCounter { count: 2, capacity: 8 };
        assert_eq!(next(&listed(2), &allocated(lists)), Some(list.clone()));
        assert_eq!(next(&listed(2), &allocated(counters)), Some(counter.clone()));
        let fixed = Limits { keeps_list_capacity: true, ..Limits::default() };
        let values_only = Task::SetList { capacity: None, values: vec!["p0".to_owned(), "p1".to_owned()] };
        assert_eq!(next_task(&listed(2), &allocated(lists), &fixed), Some(values_only));
        let both = allocated(&format!("{lists},{counters}"));
        let refused = Limits { refused: vec![list], ..Limits::default() };
        assert_eq!(next_task(&listed(2), &both, &refused), Some(counter));
        let old = Limits { no_lists: true, no_counters: true, ..Limits::default() };
        assert_eq!(next_task(&listed(2), &both, &old), None);
        let is_there = r#""lists":{"players":{"capacity":"8","values":["p1","p0"]}}"#;
        assert_eq!(next(&listed(2), &allocated(is_there)), None);
    }

    #[test]
    fn what_cannot_be_done_is_in_the_way_of_nothing() {
        let mut limits = Limits::default();
        let error = SidecarError::Unsupported("/metadata/annotation".to_owned());
        let fresh = seen(r#"{"status":{"state":"Scheduled"}}"#);
        let task = next_task(&listed(0), &fresh, &limits).expect("a task");
        assert!(limits.note(&task, &error));
        assert_eq!(next_task(&listed(0), &fresh, &limits), Some(Task::Ready));
        assert!(!limits.note(&Task::Ready, &error));
    }
}
