//! The rules for players: loads, saves, releases and conflicts.

use std::collections::BTreeSet;

use backend_client::api::backend::Reply;
use backend_protocol::player_store::{
    Conflict, Document, HeldPlayer, LoadPlayers, LoadedPlayer, LoadedPlayers, ReleasePlayer, ReleasePlayers,
    ReleasedPlayers, ResolveConflicts, SaveDocuments, SaveItem, SaveOutcome, SaveResult, SavedDocuments,
};
use backend_protocol::{Code, Problem};

use super::{Fact, Lease, State, Stored, StoredConflict};

impl State {
    pub fn load(&mut self, body: &LoadPlayers) -> Reply<LoadedPlayers> {
        let now = self.now();
        self.own_listed(&body.server_id, now)?;
        let mut loaded = LoadedPlayers { players: Vec::new(), held: Vec::new() };
        for player_id in body.player_ids.iter().filter(|id| *id != "nobody") {
            let fresh =
                || Lease { holder: None, epoch: 0, until: now, wanted_at: None, given: BTreeSet::new() };
            let lease = self.leases.entry(player_id.clone()).or_insert_with(fresh);
            let ours = lease.holder.as_deref() == Some(&*body.server_id);
            if let Some(holder) = lease.holder.clone().filter(|_| !ours && lease.until > now) {
                lease.wanted_at = Some(now);
                // The clock may have been set back since: from the first that waits on, it lasts no longer than one given now.
                lease.until = lease.until.min(now + self.lease);
                let expires_in_ms = i64::try_from((lease.until - now).as_millis()).unwrap_or(i64::MAX);
                loaded.held.push(HeldPlayer {
                    player_id: player_id.clone(),
                    server_id: holder,
                    expires_in_ms,
                });
                continue;
            }
            let epoch = if ours { lease.epoch } else { lease.epoch.max(self.epochs_begin) + 1 };
            lease.given.insert(epoch);
            (lease.holder, lease.epoch) = (Some(body.server_id.clone()), epoch);
            (lease.until, lease.wanted_at) = (now + self.lease, None);
            if !ours {
                let server_id = body.server_id.clone();
                self.facts.push(Fact::Given { player_id: player_id.clone(), server_id, epoch });
            }
            let documents = || self.documents.iter().filter(|((owner, _), _)| owner == player_id);
            loaded.players.push(LoadedPlayer {
                player_id: player_id.clone(),
                epoch,
                sequence: documents()
                    .filter_map(|(_, stored)| stored.last.get(&epoch))
                    .max()
                    .copied()
                    .unwrap_or(0),
                documents: documents().map(|(_, stored)| stored.document.clone()).collect(),
                conflicts: self.open_conflicts(player_id).cloned().collect(),
            });
        }
        Ok(loaded)
    }

    pub fn save(&mut self, body: &SaveDocuments) -> Reply<SavedDocuments> {
        if self.refuses_saves {
            return Err(Problem::new(Code::Internal, "no").into());
        }
        self.own(&body.server_id)?;
        let until = self.now() + self.lease;
        for item in &body.items {
            let lease = self.leases.get_mut(&item.player_id);
            if let Some(lease) = lease.filter(|lease| lease.holder.as_deref() == Some(&*body.server_id)) {
                lease.until = until;
            }
        }
        let results = body.items.iter().map(|item| self.save_one(&body.server_id, item)).collect();
        Ok(SavedDocuments { results, wanted: self.wanted(&body.server_id) })
    }

    fn save_one(&mut self, server_id: &str, item: &SaveItem) -> SaveResult {
        let SaveItem { player_id, key, epoch, sequence, value, loaded_version } = item.clone();
        self.facts.push(Fact::Received {
            player_id: player_id.clone(),
            key: key.clone(),
            epoch,
            sequence,
            value: value.clone(),
        });
        let name = (player_id.clone(), key.clone());
        let current = self.leases.get(&player_id).map(|lease| lease.epoch);
        let stored = self.documents.get(&name);
        let version = stored.map_or(0, |stored| stored.document.version);
        let result = |outcome, version| SaveResult {
            player_id: item.player_id.clone(),
            key: item.key.clone(),
            outcome,
            version,
            code: None,
        };
        // Under a lease that is not known, the version may have come again with another content.
        let is_unrecorded = !self.is_given(&player_id, epoch);
        let is_another = |loaded: i64| {
            is_unrecorded && version == loaded && stored.is_some_and(|stored| stored.document.value != value)
        };
        if loaded_version.is_some_and(|loaded| version >= loaded && !is_another(loaded)) {
            return result(SaveOutcome::Replayed, version);
        }
        if let Some(last) =
            stored.and_then(|stored| stored.last.get(&epoch)).filter(|last| **last >= sequence)
        {
            let outcome = if *last == sequence { SaveOutcome::Replayed } else { SaveOutcome::Superseded };
            return result(outcome, version);
        }
        if current != Some(epoch) {
            let outcome = self.keep(server_id, item);
            let code = is_unrecorded.then_some(Code::RolledBack);
            return SaveResult { code, ..result(outcome, version) };
        }
        let of_player = self.documents.keys().filter(|(player, _)| *player == player_id).count();
        if version == 0 && self.max_documents.is_some_and(|most| of_player >= most) {
            return SaveResult { code: Some(Code::TooManyDocuments), ..result(SaveOutcome::Refused, 0) };
        }
        let version = version + 1;
        let updated_at = String::new();
        let document = Document { key: key.clone(), version, value: value.clone(), updated_at };
        let mut stored = self.documents.remove(&name);
        let (mut last, mut applied) =
            stored.take().map(|stored| (stored.last, stored.applied)).unwrap_or_default();
        last.insert(epoch, sequence);
        applied.push((epoch, sequence));
        self.documents.insert(name, Stored { document, last, applied });
        self.facts.push(Fact::Applied { player_id, key, epoch, sequence, version, value });
        result(SaveOutcome::Applied, version)
    }

    fn keep(&mut self, server_id: &str, item: &SaveItem) -> SaveOutcome {
        let SaveItem { player_id, key, epoch, sequence, value, .. } = item.clone();
        let name = (player_id.clone(), key.clone(), epoch);
        match self.conflicts.get(&name).map(|kept| kept.conflict.sequence) {
            // A repetition gets the first answer again, also after the conflict was resolved.
            Some(known) if known == sequence => return SaveOutcome::Conflicted,
            Some(known) if known > sequence => return SaveOutcome::Superseded,
            _ => {}
        }
        self.conflict_count += 1;
        let conflict = Conflict {
            conflict_id: format!("conflict-{}", self.conflict_count),
            player_id: player_id.clone(),
            key: key.clone(),
            server_id: server_id.to_owned(),
            epoch,
            sequence,
            value: value.clone(),
            received_at: String::new(),
        };
        self.conflicts.insert(name, StoredConflict { conflict, resolved: false });
        self.facts.push(Fact::Kept { player_id, key, epoch, sequence, value });
        SaveOutcome::Conflicted
    }

    pub fn release(&mut self, body: &ReleasePlayers) -> Reply<ReleasedPlayers> {
        self.own(&body.server_id)?;
        let behind: Vec<String> = body
            .players
            .iter()
            .flatten()
            .filter(|player| self.is_behind(player))
            .map(|player| player.player_id.clone())
            .collect();
        self.release_where(&body.server_id, |player_id, epoch| {
            let named = body.players.as_ref().is_none_or(|players| {
                players.iter().any(|player| player.player_id == player_id && player.epoch == epoch)
            });
            named && !behind.iter().any(|behind| behind == player_id)
        });
        for player in body.players.iter().flatten().filter(|player| !behind.contains(&player.player_id)) {
            if !self.is_given(&player.player_id, player.epoch) {
                let (player_id, epoch) = (player.player_id.clone(), player.epoch);
                self.facts.push(Fact::Over { player_id, epoch });
            }
        }
        Ok(ReleasedPlayers { behind })
    }

    pub(super) fn release_where(&mut self, server_id: &str, is_released: impl Fn(&str, i64) -> bool) {
        for (player_id, lease) in &mut self.leases {
            if lease.holder.as_deref() == Some(server_id) && is_released(player_id, lease.epoch) {
                lease.holder = None;
                lease.wanted_at = None;
                let (player_id, server_id) = (player_id.clone(), server_id.to_owned());
                self.facts.push(Fact::Released { player_id, server_id, epoch: lease.epoch });
            }
        }
    }

    /// Whether this database knows of the lease: one that it does not know was given by a state that is lost.
    fn is_given(&self, player_id: &str, epoch: i64) -> bool {
        self.leases.get(player_id).is_some_and(|lease| lease.given.contains(&epoch))
    }

    /// Whether saves that were confirmed are missing, or the whole lease.
    fn is_behind(&self, player: &ReleasePlayer) -> bool {
        let Some(saved) = player.saved_sequences else { return false };
        let documents = self.documents.iter().filter(|((owner, _), _)| *owner == player.player_id);
        let sequences: i64 = documents.filter_map(|(_, stored)| stored.last.get(&player.epoch)).sum();
        let documents = self.documents.iter().filter(|((owner, _), _)| *owner == player.player_id);
        let versions: i64 = documents.map(|(_, stored)| stored.document.version).sum();
        let is_older = versions < player.saved_versions.unwrap_or(0);
        let is_given = self.is_given(&player.player_id, player.epoch);
        !is_given || sequences < saved || is_older
    }

    /// A player's unresolved conflicts, the oldest first.
    pub fn open_conflicts(&self, player_id: &str) -> impl Iterator<Item = &Conflict> {
        let kept =
            self.conflicts.iter().filter(move |((owner, ..), kept)| owner == player_id && !kept.resolved);
        kept.map(|(_, kept)| &kept.conflict)
    }

    pub fn resolve(&mut self, body: &ResolveConflicts) -> Reply<()> {
        self.own(&body.server_id)?;
        for kept in self.conflicts.values_mut() {
            if kept.resolved || !body.conflict_ids.contains(&kept.conflict.conflict_id) {
                continue;
            }
            let holder = self.leases.get(&kept.conflict.player_id).and_then(|lease| lease.holder.as_deref());
            if holder != Some(&*body.server_id) {
                return Err(Problem::new(Code::LeaseLost, "the player is not held by this server").into());
            }
            kept.resolved = true;
            let Conflict { player_id, key, epoch, sequence, .. } = kept.conflict.clone();
            self.facts.push(Fact::Resolved { player_id, key, epoch, sequence });
        }
        Ok(())
    }
}
