//! What the backend knows, and its rules for leases, saves and conflicts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use backend_protocol::player_store::{
    Conflict, Document, HeldPlayer, LoadPlayers, LoadedPlayer, LoadedPlayers, ReleasePlayer, ReleasePlayers,
    ReleasedPlayers, ResolveConflicts, SaveDocuments, SaveItem, SaveOutcome, SaveResult, SavedDocuments,
};
use backend_protocol::registration::{Heartbeat, HeartbeatReply, RegisterServer, Revocation, ServerLease};
use backend_protocol::validation::Jwks;
use backend_protocol::{Code, Problem};
use tokio::time::Instant;

use backend_client::api::backend::Reply;
use backend_client::player_store::Content;

/// A server that waits asks again and again; one that has not for this long has given up.
const WANTED: Duration = Duration::from_secs(10);

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The request never arrives.
    LostRequest,
    /// The request is executed, its reply never arrives.
    LostReply,
    /// The request is executed at once, its reply takes this long.
    LateReply(Duration),
    /// 503.
    Unavailable,
}

/// The backend's memory. Public fields are for tests to look at and to turn.
pub struct State {
    /// How many documents a player may have; `None`: any number.
    pub max_documents: Option<usize>,
    /// Faults of the next calls, in order; `None` is a call that goes well.
    pub troubles: VecDeque<Option<Trouble>>,
    /// Every call fails with this until it is taken away.
    pub outage: Option<Trouble>,
    /// Requests of this call are lost, until it is taken away.
    pub lost_call: Option<&'static str>,
    /// Batches of more bytes than this get no answer in time.
    pub largest_batch: Option<usize>,
    /// Saves fail, everything else does not.
    pub refuses_saves: bool,
    pub jwks: Option<Jwks>,
    /// What heartbeats are told of them.
    pub key_ids: Option<Vec<String>>,
    /// The same of revocations.
    pub revocations: Vec<Revocation>,
    pub revocations_as_of: u64,
    pub heartbeats: Vec<Heartbeat>,
    /// The registry has lost its entries.
    pub forgotten: bool,
    pub registrations: usize,
    pub deregistered: Vec<String>,
    pub refresh_tokens_used: Vec<String>,
    pub revoked: bool,
    pub tickets_used: Vec<String>,
    /// Of servers and of players.
    pub lease: Duration,
    /// How far the backend's clock is ahead of where it began; leases are judged by it.
    pub clock_ahead: Duration,
    pub heartbeat_seconds: u32,
    /// The same for a server with players.
    pub holder_heartbeat_seconds: u32,
    /// What registrations are told.
    pub backend_id: Option<String>,
    /// What registrations and heartbeats are told of the room.
    pub invite_code: Option<String>,
    /// Instance → entry.
    pub servers: BTreeMap<String, Server>,
    pub leases: BTreeMap<String, Lease>,
    pub documents: BTreeMap<(String, String), Stored>,
    /// By document and epoch; resolved ones stay, for repetitions.
    pub conflicts: BTreeMap<(String, String, i64), Kept>,
    /// What happened, for who checks it. Empty it from time to time.
    pub facts: Vec<Fact>,
    conflict_count: u64,
    /// Epochs up to this one were given by a state that is lost.
    epochs_begin: i64,
    server_count: usize,
}

#[derive(Clone)]
pub struct Server {
    pub server_id: String,
    pub until: Option<Instant>,
    pub sequence: u64,
    /// The heartbeat that found the database older than its server had been told.
    pub rolled_back_at: u64,
}

#[derive(Clone)]
pub struct Lease {
    pub holder: Option<String>,
    pub epoch: i64,
    pub until: Instant,
    pub wanted_at: Option<Instant>,
    /// Epochs that this database knows to have been given.
    given: BTreeSet<i64>,
}

#[derive(Clone)]
pub struct Stored {
    pub document: Document,
    /// Epoch → the largest sequence applied.
    pub last: BTreeMap<i64, i64>,
    /// (epoch, sequence) of every save that was applied.
    pub applied: Vec<(i64, i64)>,
}

#[derive(Clone)]
pub struct Kept {
    pub conflict: Conflict,
    pub resolved: bool,
}

/// A copy of what the backend keeps in its database.
#[derive(Clone)]
pub struct Backup {
    servers: BTreeMap<String, Server>,
    leases: BTreeMap<String, Lease>,
    documents: BTreeMap<(String, String), Stored>,
    conflicts: BTreeMap<(String, String, i64), Kept>,
}

/// What the backend did.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Received {
        player_id: String,
        key: String,
        epoch: i64,
        sequence: i64,
        value: Content,
    },
    Applied {
        player_id: String,
        key: String,
        epoch: i64,
        sequence: i64,
        version: i64,
        value: Content,
    },
    Kept {
        player_id: String,
        key: String,
        epoch: i64,
        sequence: i64,
        value: Content,
    },
    Resolved {
        player_id: String,
        key: String,
        epoch: i64,
        sequence: i64,
    },
    Given {
        player_id: String,
        server_id: String,
        epoch: i64,
    },
    LetGo {
        player_id: String,
        server_id: String,
        epoch: i64,
    },
    /// A lease of which the database knows nothing: who had it has no more to do with it.
    Over {
        player_id: String,
        epoch: i64,
    },
    /// A server left the list and may not have had an answer to its releases: nobody asked what the database lacks.
    Deregistered {
        server_id: String,
    },
}

impl Default for State {
    fn default() -> Self {
        Self {
            max_documents: None,
            troubles: VecDeque::new(),
            outage: None,
            lost_call: None,
            largest_batch: None,
            refuses_saves: false,
            jwks: None,
            key_ids: None,
            revocations: Vec::new(),
            revocations_as_of: 0,
            heartbeats: Vec::new(),
            forgotten: false,
            registrations: 0,
            deregistered: Vec::new(),
            refresh_tokens_used: Vec::new(),
            revoked: false,
            tickets_used: Vec::new(),
            lease: Duration::from_secs(60),
            clock_ahead: Duration::ZERO,
            heartbeat_seconds: 30,
            holder_heartbeat_seconds: 30,
            backend_id: Some("simulated".into()),
            invite_code: None,
            servers: BTreeMap::new(),
            leases: BTreeMap::new(),
            documents: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            facts: Vec::new(),
            conflict_count: 0,
            epochs_begin: 0,
            server_count: 0,
        }
    }
}

impl State {
    pub fn register(&mut self, body: &RegisterServer) -> ServerLease {
        self.registrations += 1;
        self.forgotten = false;
        self.server_count += 1;
        let number = self.server_count;
        let until = Some(self.now() + self.lease);
        let server = self.servers.entry(body.instance_id.clone());
        let server = server.or_insert_with(|| Server {
            server_id: format!("server-{number}"),
            until,
            sequence: 0,
            rolled_back_at: 0,
        });
        // One that left stays off the list: what arrives now is a repetition.
        server.until = server.until.and(until);
        let server_id = server.server_id.clone();
        self.renew_all(&server_id);
        let lease_seconds = u32::try_from(self.lease.as_secs()).unwrap_or(u32::MAX);
        ServerLease {
            server_id,
            lease_seconds,
            heartbeat_seconds: self.heartbeat_seconds,
            backend_id: self.backend_id.clone(),
            invite_code: self.invite_code.clone(),
            room: None,
        }
    }

    pub fn heartbeat(&mut self, server_id: &str, beat: &Heartbeat) -> Reply<HeartbeatReply> {
        let now = self.now();
        let lease = self.lease;
        let forgotten = self.forgotten;
        let listed = self.servers.values_mut().find(|server| server.server_id == server_id);
        let listed = listed.filter(|server| !forgotten && server.until.is_some_and(|until| until > now));
        let Some(server) = listed else { return Err(unknown_server()) };
        let confirmed = beat.confirmed_sequence.unwrap_or(0);
        if server.sequence < confirmed {
            server.rolled_back_at = beat.sequence;
        }
        let rolled_back = server.rolled_back_at > confirmed;
        if server.sequence < beat.sequence {
            server.sequence = beat.sequence;
            server.until = Some(now + lease);
            self.renew_all(server_id);
        }
        self.heartbeats.push(beat.clone());
        let held =
            |(id, lease): (&String, &Lease)| (lease.holder.as_deref() == Some(server_id)).then(|| id.clone());
        let holds = self.leases.values().any(|lease| lease.holder.as_deref() == Some(server_id));
        let interval = if holds || beat.players > 0 {
            self.heartbeat_seconds.min(self.holder_heartbeat_seconds)
        } else {
            self.heartbeat_seconds
        };
        let conflicts =
            self.leases.iter().filter_map(held).filter(|id| self.open_conflicts(id).next().is_some());
        Ok(HeartbeatReply {
            lease_seconds: u32::try_from(lease.as_secs()).unwrap_or(u32::MAX),
            heartbeat_seconds: interval,
            drain: false,
            rolled_back,
            wanted: self.wanted(server_id),
            conflicts: conflicts.collect(),
            revocations: self.revocations.clone(),
            revocations_as_of: self.revocations_as_of,
            key_ids: self.key_ids.clone(),
            invite_code: self.invite_code.clone(),
            room: None,
        })
    }

    pub fn deregister(&mut self, server_id: &str) {
        self.deregistered.push(server_id.to_owned());
        let holds = self.leases.values().any(|lease| lease.holder.as_deref() == Some(server_id));
        if holds {
            self.facts.push(Fact::Deregistered { server_id: server_id.to_owned() });
        }
        if let Some(server) = self.servers.values_mut().find(|server| server.server_id == server_id) {
            server.until = None;
            // Also what it does not know of: a lease whose reply was lost.
            self.release_where(server_id, |_, _| true);
        }
    }

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
        self.conflicts.insert(name, Kept { conflict, resolved: false });
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

    fn release_where(&mut self, server_id: &str, is_released: impl Fn(&str, i64) -> bool) {
        for (player_id, lease) in &mut self.leases {
            if lease.holder.as_deref() == Some(server_id) && is_released(player_id, lease.epoch) {
                lease.holder = None;
                lease.wanted_at = None;
                let (player_id, server_id) = (player_id.clone(), server_id.to_owned());
                self.facts.push(Fact::LetGo { player_id, server_id, epoch: lease.epoch });
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

    pub fn back_up(&self) -> Backup {
        Backup {
            servers: self.servers.clone(),
            leases: self.leases.clone(),
            documents: self.documents.clone(),
            conflicts: self.conflicts.clone(),
        }
    }

    /// The backend comes back with an older state. No epoch is given twice all the same.
    pub fn restore(&mut self, backup: Backup) {
        self.go_back(backup);
        self.restarted();
    }

    /// Another copy of the database takes over, which is older; the backend goes on meanwhile.
    pub fn go_back(&mut self, backup: Backup) {
        let epochs = |leases: &BTreeMap<String, Lease>| leases.values().map(|lease| lease.epoch).max();
        self.epochs_begin = self.epochs_begin.max(epochs(&self.leases).unwrap_or(0));
        let Backup { servers, leases, documents, conflicts } = backup;
        (self.servers, self.leases) = (servers, leases);
        (self.documents, self.conflicts) = (documents, conflicts);
    }

    /// The backend comes back: who was alive when it went has one lease to be heard again.
    pub fn restarted(&mut self) {
        let until = self.now() + self.lease;
        for server in self.servers.values_mut().filter(|server| server.until.is_some()) {
            server.until = Some(until);
        }
        for lease in self.leases.values_mut().filter(|lease| lease.holder.is_some()) {
            lease.until = until;
        }
    }

    /// The sweep: nothing lasts longer than if it began now, for the clock may have been set back since.
    pub fn mend_times(&mut self) {
        let (now, until) = (self.now(), self.now() + self.lease);
        for server in self.servers.values_mut() {
            server.until = server.until.map(|ends| ends.min(until));
        }
        for lease in self.leases.values_mut() {
            lease.until = lease.until.min(until);
            lease.wanted_at = lease.wanted_at.map(|at| at.min(now));
        }
    }

    /// By the backend's clock.
    fn now(&self) -> Instant {
        Instant::now() + self.clock_ahead
    }

    fn own(&self, server_id: &str) -> Reply<()> {
        let known = self.servers.values().any(|server| server.server_id == server_id);
        if known { Ok(()) } else { Err(unknown_server()) }
    }

    /// [`Self::own`], for who takes something over: only a server that is listed may.
    fn own_listed(&self, server_id: &str, now: Instant) -> Reply<()> {
        let is_listed =
            |server: &Server| server.server_id == server_id && server.until.is_some_and(|until| until > now);
        let listed = !self.forgotten && self.servers.values().any(is_listed);
        if listed { Ok(()) } else { Err(unknown_server()) }
    }

    fn renew_all(&mut self, server_id: &str) {
        let until = self.now() + self.lease;
        for lease in self.leases.values_mut().filter(|lease| lease.holder.as_deref() == Some(server_id)) {
            lease.until = until;
        }
    }

    fn wanted(&self, server_id: &str) -> Vec<String> {
        let now = self.now();
        let wanted = self.leases.iter().filter(|(_, lease)| {
            lease.holder.as_deref() == Some(server_id) && lease.wanted_at.is_some_and(|at| at + WANTED > now)
        });
        wanted.map(|(id, _)| id.clone()).collect()
    }
}

fn unknown_server() -> backend_client::error::ClientError {
    Problem::new(Code::ServerUnknown, "who?").into()
}
