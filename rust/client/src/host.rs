//! The seam to whatever runs the process: where it is reachable, what it is used for, when it has to leave, and what it
//! wants to be told.
//!
//! Several hosts can hold at once, such as a service manager on a machine of a cloud. [`detect`] finds them by the
//! environment and the machine's own description. Each runs on the workers by [`Host::run`]; what the server has to say is noted by the other methods
//! and goes out from there.

mod agones;
mod azure;
mod detection;
mod ec2;
mod ecs;
mod gcp;
mod liveness;
mod metadata;
#[cfg(target_os = "linux")]
mod systemd;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::registration::ServerDescription;

pub use agones::Agones;
pub use azure::Azure;
pub use detection::{Detected, HostChoice, Surroundings, UnknownHost, detect, machine_field};
pub use ec2::Ec2;
pub use ecs::Ecs;
pub use gcp::Gcp;
pub use liveness::{Liveness, keep_alive};
#[cfg(target_os = "linux")]
pub use systemd::{Systemd, SystemdError};

/// Names under which a host may list the port for players; else it is the first one.
const GAME_PORT_NAMES: [&str; 2] = ["game", "default"];
/// Name under which a host lists the port that answers queries.
const QUERY_PORT_NAME: &str = "query";

/// Where players reach this server, as its host knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicAddress {
    /// A host name or an IP address, without a port.
    pub address: String,
    /// Ports as players see them, with the names that the host has for them. Empty if the host does not map ports.
    pub ports: Vec<(String, u16)>,
}

impl PublicAddress {
    /// The port that players connect to: the one named `game` or `default`, else the first one. `None`: the one that the
    /// server listens on.
    pub fn game_port(&self) -> Option<u16> {
        let named = |wanted: &&str| self.ports.iter().find(|(name, _)| name == wanted);
        let others = || self.ports.iter().find(|(name, _)| name != QUERY_PORT_NAME);
        GAME_PORT_NAMES.iter().find_map(named).or_else(others).map(|(_, port)| *port)
    }

    /// The port named `query`.
    pub fn query_port(&self) -> Option<u16> {
        self.ports.iter().find(|(name, _)| name == QUERY_PORT_NAME).map(|(_, port)| *port)
    }

    /// Registers a server where players reach it. Of a host that maps ports, those that it does not name cannot be reached.
    pub fn place(&self, server: &mut ServerDescription) {
        server.address.clone_from(&self.address);
        server.port = self.game_port().unwrap_or(server.port);
        if !self.ports.is_empty() {
            server.query_port = self.query_port();
        }
    }
}

/// What a host has said about where players reach this server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ReportedAddress {
    /// Nothing yet, but it will.
    #[default]
    NotYet,
    /// That it knows no address. One may come later nevertheless.
    Never,
    /// Here.
    At(PublicAddress),
}

/// Where players reach this server, by the first of these hosts that knows.
pub fn known_address(hosts: &[Arc<dyn Host>]) -> Option<PublicAddress> {
    let reported = hosts.iter().filter_map(|host| host.address());
    reported.into_iter().find_map(|reported| match &*reported.borrow() {
        ReportedAddress::At(address) => Some(address.clone()),
        ReportedAddress::NotYet | ReportedAddress::Never => None,
    })
}

/// Waits until a host has said where players reach this server, or all have said that they do not know.
pub async fn wait_for_address(hosts: &[Arc<dyn Host>]) {
    for mut reported in hosts.iter().filter_map(|host| host.address()) {
        let said = reported.wait_for(|reported| *reported != ReportedAddress::NotYet).await;
        if said.is_ok_and(|said| matches!(*said, ReportedAddress::At(_))) {
            return;
        }
    }
}

/// What a host has given this server to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// [`Host::name`] of the host.
    pub host: &'static str,
    /// The host's own name for this server.
    pub name: String,
    /// Labels, among them those of whoever allocated the server.
    pub labels: BTreeMap<String, String>,
    /// Annotations, among them those of whoever allocated the server.
    pub annotations: BTreeMap<String, String>,
}

/// The host is about to end this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Why, as a word for programs, such as `agones_shutdown`.
    pub reason: &'static str,
    /// Time that is left. `None`: the host does not say, and the grace of the settings applies.
    pub deadline: Option<Duration>,
}

/// News from a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// Players reach this server here from now on.
    AddressChanged(PublicAddress),
    /// Somebody outside took this server for a session.
    Allocated(Session),
    /// The process is to leave.
    Notice(Notice),
    /// Something may happen to the machine that ends no process by itself: the reason, as a word for programs.
    Advice(&'static str),
}

/// Told about each [`HostEvent`], on a worker thread.
pub type OnHostEvent = Arc<dyn Fn(HostEvent) + Send + Sync>;

/// The players of this server, as a host may list them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Players {
    /// How many there are.
    pub count: u32,
    /// How many there can be.
    pub capacity: u32,
    /// Ids of those who were verified.
    pub ids: Vec<String>,
}

/// A host. Most methods only note what is to be told, but may block for a moment: not for the main thread.
#[async_trait]
pub trait Host: Send + Sync {
    /// Its name in logs and settings, such as `agones`.
    fn name(&self) -> &'static str;

    /// Listens to the host and tells it what was noted, until the future is dropped.
    async fn run(&self, _on_event: OnHostEvent) {}

    /// Where players reach this server. No receiver: the host never knows.
    fn address(&self) -> Option<watch::Receiver<ReportedAddress>> {
        None
    }

    /// Time after which the host kills a process that it wants to end, unless it is set otherwise there. `None`: it does not, or
    /// gives the time that the process asks for.
    fn usual_grace(&self) -> Option<Duration> {
        None
    }

    /// The server is listed under this id and takes players.
    fn ready(&self, _server_id: &str) {}

    /// Players came or left. Does not block.
    fn players_changed(&self, _players: &Players) {}

    /// The server is leaving, and will be gone after `grace` at the latest.
    fn draining(&self, _grace: Duration, _reason: &str) {}

    /// What the server is doing, in a few words for a person.
    fn status(&self, _status: &str) {}

    /// Everything that could be saved is saved, and the process is about to end. `owes_saves`: some are in the journal only.
    /// Returns when the host knows it.
    async fn stopped(&self, _owes_saves: bool) {}

    /// The server is well: its main loop turns.
    fn healthy(&self) {}

    /// How often the host wants to hear that; `None`: never.
    fn health_interval(&self) -> Option<Duration> {
        None
    }

    /// Whether a main loop that stands still is well for as long as the game allows. Otherwise it has to turn several times
    /// per [`Self::health_interval`].
    fn allows_stalls(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
