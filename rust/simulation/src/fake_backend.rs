//! What the backend knows, and its rules for servers; those for players are in `documents`.

mod backups;
mod documents;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use backend_protocol::player_store::{Conflict, Document};
use backend_protocol::registration::{Heartbeat, HeartbeatReply, RegisterServer, Revocation, ServerLease};
use backend_protocol::validation::Jwks;
use backend_protocol::{Code, Problem};
use tokio::time::Instant;

use backend_client::api::backend::Reply;
use backend_client::player_store::Content;

pub use backups::Backup;

/// A server that waits asks again and again; one that has not for this long has given up.
const WANTED_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub conflicts: BTreeMap<(String, String, i64), StoredConflict>,
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
    /// The process' call that registered it last, as its idempotency key tells.
    pub registered_with: usize,
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
pub struct StoredConflict {
    pub conflict: Conflict,
    pub resolved: bool,
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
    Released {
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
    pub fn register(&mut self, body: &RegisterServer, call: usize) -> ServerLease {
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
            registered_with: call,
            rolled_back_at: 0,
        });
        // A repetition of the registration that arrives after the server has left lists it no more.
        if server.until.is_some() || server.registered_with != call {
            server.until = until;
        }
        server.registered_with = call;
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
            lease.holder.as_deref() == Some(server_id)
                && lease.wanted_at.is_some_and(|at| at + WANTED_TIMEOUT > now)
        });
        wanted.map(|(id, _)| id.clone()).collect()
    }
}

fn unknown_server() -> backend_client::error::ClientError {
    Problem::new(Code::ServerUnknown, "who?").into()
}
