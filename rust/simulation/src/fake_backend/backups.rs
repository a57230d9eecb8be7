//! Copies of the database, and a backend that goes on with one of them.

use std::collections::BTreeMap;

use super::{Lease, Server, State, Stored, StoredConflict};

/// A copy of what the backend keeps in its database.
#[derive(Clone)]
pub struct Backup {
    servers: BTreeMap<String, Server>,
    leases: BTreeMap<String, Lease>,
    documents: BTreeMap<(String, String), Stored>,
    conflicts: BTreeMap<(String, String, i64), StoredConflict>,
}

impl State {
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
}
