//! The one task that writes the journal: everything that changed since the last transaction becomes the next one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::document_source::DocumentBody;
use super::player::{RecoveredSave, Revision};
use super::state::{Epoched, JournalState, Name, StoreState};
use super::{Event, Inner, LocalSave};
use crate::api::retry;
use crate::error::ClientError;
use crate::failpoints::Failpoint;
use crate::journal::{Changes, Journal, JournalError, Record, Recovered, Settled};
use crate::registration::BackendIdentity;

/// Time without anything to write after which the journal gives disk space back.
const REST_DELAY: Duration = Duration::from_secs(2);
/// Time between two looks for what processes left that died beside this one: well within a lease, so that what they saved
/// arrives before somebody else takes their players. Journals that failed are looked after then, too.
const TAKEOVER_INTERVAL: Duration = Duration::from_secs(15);
/// Longest pause between attempts to open a journal that failed.
const MAX_REOPEN_INTERVAL: Duration = Duration::from_secs(5);
/// Pause between attempts to write to a journal whose disk is full: whoever makes room is soon safe again.
const FULL_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two looks whether the server is registered, which opens the journal.
const UNREGISTERED_INTERVAL: Duration = Duration::from_secs(1);
/// Failpoint fault, for the tests that must notice it: time between a false acknowledgement and the write.
const EARLY_ACK_DELAY: Duration = Duration::from_millis(100);

/// A transaction, and what becomes durable with it.
#[derive(Default)]
struct Group {
    changes: Changes,
    living: Vec<(Name, i64, Revision)>,
    recovered: Vec<(Epoched, i64, DocumentBody, Option<i64>)>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.living.is_empty() && self.recovered.is_empty() && self.changes.is_empty()
    }

    /// Has the contents written as text, which takes its time.
    fn write_up(&mut self) {
        let record =
            |player_id: &str, key: &str, epoch, sequence, body: &DocumentBody, loaded_version| Record {
                player_id: player_id.to_owned(),
                key: key.to_owned(),
                epoch,
                sequence,
                value: body.text().clone(),
                loaded_version,
            };
        let living = self.living.iter().map(|(name, epoch, revision)| {
            record(&name.0, &name.1, *epoch, revision.sequence, &revision.body, revision.loaded_version)
        });
        let recovered = self.recovered.iter().map(|(name, sequence, body, loaded_version)| {
            record(&name.0, &name.1, name.2, *sequence, body, *loaded_version)
        });
        self.changes.saves = living.chain(recovered).collect();
    }
}

pub(super) async fn run(store: Weak<Inner>, wake: Arc<Notify>) {
    let mut journal: Option<Box<dyn Journal>> = None;
    // Journals that failed. They are not written to again, but held: what nobody holds is a dead process's.
    let mut failed: Vec<Box<dyn Journal>> = Vec::new();
    let mut failures: u32 = 0;
    // Counted: it is known how much is left, before the journal can be opened.
    let (mut rested, mut counted) = (true, false);
    let mut looked: Option<Instant> = None;
    loop {
        let Some(inner) = store.upgrade() else { break };
        let now = inner.clock.now();
        let open = match &mut journal {
            Some(open) => open,
            None if inner.backend().is_none() => {
                counted = counted || inner.count_unsent(&mut failures).await;
                let clock = Arc::clone(&inner.clock);
                drop(inner);
                wait_for(&wake, &clock, UNREGISTERED_INTERVAL).await;
                continue;
            }
            None => match inner.open_journal().await {
                Ok((opened, recovered)) => {
                    inner.opened(recovered, failures > 0);
                    failures = 0;
                    rested = false;
                    looked = Some(now);
                    journal.insert(opened)
                }
                Err(error) => {
                    inner.journal_failed(error, failures == 0);
                    failures = failures.saturating_add(1);
                    let clock = Arc::clone(&inner.clock);
                    drop(inner);
                    let pause = retry::backoff_within(failures, MAX_REOPEN_INTERVAL);
                    wait_to_reopen(&store, &wake, &clock, pause).await;
                    continue;
                }
            },
        };
        let until_look =
            looked.map_or(Duration::ZERO, |at| (at + TAKEOVER_INTERVAL).saturating_duration_since(now));
        if until_look.is_zero() {
            looked = Some(now);
            if !inner.lock().rewrite {
                empty(&mut failed).await;
            }
            if !inner.adopt(&mut **open, &mut failures).await {
                failed.extend(journal.take());
            }
            continue;
        }
        let (mut group, outdated) = {
            let mut state = inner.lock();
            (state.group(inner.registration.server_id()), std::mem::take(&mut state.outdated))
        };
        drop(outdated);
        if group.is_empty() {
            let clock = Arc::clone(&inner.clock);
            // Strong references end here: an idle store can be dropped.
            drop(inner);
            tokio::select! {
                biased;
                () = wake.notified() => continue,
                () = clock.sleep(REST_DELAY), if !rested => {}
                () = clock.sleep(until_look) => continue,
            }
            rested = true;
            if let Err(error) = open.rest().await {
                tracing::warn!(%error, "the journal could not give disk space back");
            }
            continue;
        }
        rested = false;
        group.write_up();
        if Failpoint::EarlyAck.is_active() {
            inner.journalled(&group);
            inner.clock.sleep(EARLY_ACK_DELAY).await;
        }
        match open.write(&group.changes).await {
            Ok(()) => {
                if std::mem::take(&mut failures) > 0 {
                    inner.works_again();
                }
                inner.journalled(&group);
            }
            Err(error) => {
                let is_full = matches!(error, JournalError::Full(_));
                inner.give_back(group);
                inner.journal_failed(error, failures == 0 || !is_full);
                failures = failures.saturating_add(1);
                let clock = Arc::clone(&inner.clock);
                drop(inner);
                if is_full {
                    // Nothing was written, and nothing is in doubt: the same journal goes on once there is room.
                    wait_to_reopen(&store, &wake, &clock, FULL_RETRY_INTERVAL).await;
                } else {
                    failed.extend(journal.take());
                }
            }
        }
    }
    close_all(journal.into_iter().chain(failed)).await;
}

async fn close_all(journals: impl Iterator<Item = Box<dyn Journal>>) {
    for journal in journals {
        journal.close().await;
    }
}

/// Lets go of journals that failed, if they can be emptied: all they had is in the present one.
async fn empty(failed: &mut Vec<Box<dyn Journal>>) {
    for mut journal in std::mem::take(failed) {
        match journal.clear().await {
            Ok(()) => journal.close().await,
            Err(error) => {
                tracing::debug!(%error, "a journal that failed is kept open");
                failed.push(journal);
            }
        }
    }
}

/// Sleeps, unless something is to be done.
async fn wait_for(wake: &Notify, clock: &Arc<dyn crate::platform::clock::Clock>, pause: Duration) {
    tokio::select! {
        biased;
        () = wake.notified() => {}
        () = clock.sleep(pause) => {}
    }
}

/// Sleeps, but goes on numbering what changes: without a journal, saves are sent all the same.
async fn wait_to_reopen(
    store: &Weak<Inner>,
    wake: &Notify,
    clock: &Arc<dyn crate::platform::clock::Clock>,
    pause: Duration,
) {
    let until = clock.now() + pause;
    loop {
        match store.upgrade() {
            Some(inner) => {
                inner.lock().number();
                inner.wake_sender.notify_one();
            }
            None => return,
        }
        let left = until.saturating_duration_since(clock.now());
        tokio::select! {
            biased;
            () = wake.notified() => {}
            () = clock.sleep(left) => return,
        }
    }
}

impl Inner {
    fn opened(&self, mut recovered: Recovered, again: bool) {
        let warnings = std::mem::take(&mut recovered.warnings);
        let mut news: Vec<Event> = warnings.into_iter().map(Event::JournalWarning).collect();
        if again {
            news.push(Event::JournalRecovered);
        }
        {
            let mut state = self.lock();
            state.take_over(recovered);
            state.is_taking_over = false;
            state.journal = JournalState::Good;
            state.has_recovered = true;
            state.counted_unopened = None;
            state.rewrite = again;
        }
        self.tell(news);
        self.wake_sender.notify_one();
        self.progressed();
    }

    async fn open_journal(&self) -> Result<(Box<dyn Journal>, Recovered), JournalError> {
        let backend = self.backend();
        self.lock().is_taking_over = true;
        let opened = self.journal.open(backend.as_ref().and_then(BackendIdentity::known)).await;
        if opened.is_err() {
            self.took_over_nothing().await;
        }
        opened
    }

    /// The journal could not be opened. What was counted before that need not be there any more, and other things may.
    async fn took_over_nothing(&self) {
        let count = self.journal.count_unsent().await.ok();
        {
            let mut state = self.lock();
            state.is_taking_over = false;
            if state.counted_unopened.is_some() {
                state.counted_unopened = count;
                state.has_recovered = count == Some(0);
            }
        }
        self.progressed();
    }

    /// Whose saves this store keeps: the backend that it was first registered at. `None`: it was at none yet.
    fn backend(&self) -> Option<BackendIdentity> {
        let mut state = self.lock();
        if state.backend.is_none() {
            state.backend = self.registration.backend();
        }
        state.backend.clone()
    }

    /// Before it is known whose saves this store keeps, nothing is taken over. If nothing is left anyway, nobody needs to wait
    /// for that. Gives whether it could be counted.
    async fn count_unsent(&self, failures: &mut u32) -> bool {
        match self.journal.count_unsent().await {
            Ok(count) => {
                let mut state = self.lock();
                state.counted_unopened = Some(count);
                if count == 0 {
                    state.journal = JournalState::Good;
                    state.has_recovered = true;
                }
                drop(state);
                self.progressed();
                true
            }
            Err(error) => {
                self.journal_failed(error, *failures == 0);
                *failures = failures.saturating_add(1);
                false
            }
        }
    }

    /// The journal failed and can be written to again.
    fn works_again(&self) {
        self.lock().journal = JournalState::Good;
        self.tell([Event::JournalRecovered]);
    }

    /// Takes over what processes left that have died. Gives whether the journal can be written to. A process that is about to
    /// end leaves it to the next one.
    async fn adopt(&self, journal: &mut dyn Journal, failures: &mut u32) -> bool {
        {
            let mut state = self.lock();
            if state.sealed {
                return true;
            }
            state.is_taking_over = true;
        }
        let mut recovered = Recovered::default();
        let outcome = journal.adopt(&mut recovered).await;
        self.adopted(recovered);
        let Err(error) = outcome else { return true };
        self.lock().rewrite = true;
        let is_full = matches!(error, JournalError::Full(_));
        self.journal_failed(error, *failures == 0);
        *failures = failures.saturating_add(1);
        is_full
    }

    /// Processes have died beside this one, which sends what they left.
    fn adopted(&self, mut recovered: Recovered) {
        let warnings = std::mem::take(&mut recovered.warnings);
        self.tell(warnings.into_iter().map(Event::JournalWarning));
        {
            let mut state = self.lock();
            state.take_over(recovered);
            state.is_taking_over = false;
        }
        self.wake_sender.notify_one();
        self.progressed();
    }

    fn journal_failed(&self, error: JournalError, tell: bool) {
        tracing::error!(%error, "the journal cannot be used; saves are safe only when the backend has them");
        self.lock().journal = JournalState::Failed;
        if tell {
            self.tell([Event::JournalFailed(ClientError::from(error))]);
        }
        self.wake_sender.notify_one();
        self.progressed();
    }

    fn journalled(&self, group: &Group) {
        let local_save = |(name, epoch, revision): &(Name, i64, Revision)| LocalSave {
            player_id: name.0.to_string(),
            key: name.1.to_string(),
            revision: revision.number,
            epoch: *epoch,
            sequence: revision.sequence,
        };
        // Of what was only loaded, the game has made no save.
        let is_save = |(_, _, revision): &&(Name, i64, Revision)| revision.loaded_version.is_none();
        let local: Vec<LocalSave> = {
            let mut state = self.lock();
            // Of a player who may be gone already, because the journal had failed, nothing is acknowledged any more: another
            // server would load the player without it.
            let kept: Vec<&(Name, i64, Revision)> = group
                .living
                .iter()
                .filter(|(name, epoch, _)| !state.may_be_released(&name.0, *epoch))
                .collect();
            for (name, epoch, revision) in &kept {
                state.mark_durable(name, *epoch, revision);
            }
            if group.changes.server_id.is_some() {
                state.journal_server_id.clone_from(&group.changes.server_id);
            }
            for (name, sequence, ..) in &group.recovered {
                if let Some(left) = state.recovered.get_mut(name).filter(|left| left.sequence == *sequence) {
                    left.journalled = true;
                }
            }
            kept.into_iter().filter(is_save).map(local_save).collect()
        };
        if !group.living.is_empty() || !group.recovered.is_empty() {
            self.wake_sender.notify_one();
        }
        if !local.is_empty() {
            self.tell([Event::Journalled(local)]);
        }
        self.progressed();
    }

    fn give_back(&self, group: Group) {
        let mut state = self.lock();
        for settled in group.changes.settled {
            state.note_settled(settled);
        }
        state.retired_servers.splice(0..0, group.changes.retired_servers);
        state.rewrite = true;
    }
}

impl StoreState {
    fn take_over(&mut self, recovered: Recovered) {
        if !recovered.saves.is_empty() {
            tracing::info!(saves = recovered.saves.len(), "unsent saves of an earlier run are sent now");
        }
        self.adopt(recovered.saves);
        for server_id in recovered.unproven_ids {
            if !self.own_ids.contains(&server_id) && !self.predecessors.contains(&server_id) {
                self.retired_servers.push(server_id);
            }
        }
        for server_id in recovered.server_ids {
            if !self.own_ids.contains(&server_id) && !self.predecessors.contains(&server_id) {
                self.predecessors.push(server_id);
            }
        }
    }

    /// The next transaction.
    fn group(&mut self, server_id: Option<String>) -> Group {
        let numbered = self.number();
        let mut group = Group::default();
        let rewrite = std::mem::take(&mut self.rewrite);
        let resent = std::mem::take(&mut self.resent);
        group.living = if rewrite { self.all_unsent() } else { resent.into_iter().chain(numbered).collect() };
        for (name, left) in &self.recovered {
            if rewrite || !left.journalled {
                let RecoveredSave { sequence, body, loaded_version, .. } = left;
                group.recovered.push((name.clone(), *sequence, body.clone(), *loaded_version));
            }
        }
        group.changes.settled = std::mem::take(&mut self.settled)
            .into_iter()
            .map(|((player_id, key, epoch), sequence)| Settled {
                player_id: player_id.to_string(),
                key: key.to_string(),
                epoch,
                sequence,
            })
            .collect();
        group.changes.retired_servers = std::mem::take(&mut self.retired_servers);
        group.changes.server_id =
            server_id.filter(|id| rewrite || self.journal_server_id.as_ref() != Some(id));
        self.own_ids.extend(group.changes.server_id.clone());
        group
    }

    /// Everything that is numbered and not with the backend, again.
    fn all_unsent(&self) -> Vec<(Name, i64, Revision)> {
        let unsent = self.unsent.iter().filter_map(|name| {
            let (player, document) = self.document(name)?;
            let revision =
                document.numbered.as_ref().filter(|revision| revision.number > document.committed)?;
            Some((name.clone(), player.epoch, revision.clone()))
        });
        unsent.collect()
    }

    fn may_be_released(&self, player_id: &str, epoch: i64) -> bool {
        self.releases.get(player_id).is_some_and(|release| release.is_requested && release.epoch == epoch)
    }

    fn mark_durable(&mut self, name: &Name, epoch: i64, revision: &Revision) {
        if !self.recovered.is_empty() {
            let left = self.recovered.get_mut(&(Arc::clone(&name.0), Arc::clone(&name.1), epoch));
            if let Some(left) = left.filter(|left| left.sequence == revision.sequence) {
                left.journalled = true;
            }
        }
        let Some(player) =
            self.players.get_mut(&name.0).filter(|player| player.epoch == epoch && !player.lost)
        else {
            return;
        };
        let Some(document) = player.documents.get_mut(&name.1) else { return };
        if document.pending.is_some() {
            document.durable = Some(revision.clone());
        }
    }
}
