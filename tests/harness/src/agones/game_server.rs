//! The GameServer, and how the gateway writes it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// A GameServer.
#[derive(Debug, Clone)]
pub struct GameServer {
    /// State, such as `Ready`.
    pub state: String,
    /// Address of its node; empty before it has one.
    pub address: String,
    /// Ports by name, as players see them.
    pub ports: Vec<(String, u16)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Count and capacity, by key.
    pub counters: BTreeMap<String, (i64, i64)>,
    /// Capacity and values, by key.
    pub lists: BTreeMap<String, (i64, Vec<String>)>,
    /// Largest capacity that the sidecar takes for a list: in the real one, what the list `players` was declared with.
    pub list_limit: i64,
    /// Seconds between health calls after which one counts as missed.
    pub health_period: u32,
    /// 0: it is not being deleted.
    pub deletion_timestamp: u64,
    /// Allocated by somebody outside, and not by itself.
    pub allocated_outside: bool,
}

impl Default for GameServer {
    /// Scheduled on a node, with a port, and with nothing declared.
    fn default() -> Self {
        Self {
            state: "Scheduled".to_owned(),
            address: "192.0.2.17".to_owned(),
            ports: vec![("game".to_owned(), 7_311)],
            labels: [("agones.dev/fleet".to_owned(), "frogs".to_owned())].into(),
            annotations: BTreeMap::new(),
            counters: BTreeMap::new(),
            lists: BTreeMap::new(),
            list_limit: 1_000,
            health_period: 5,
            deletion_timestamp: 0,
            allocated_outside: false,
        }
    }
}

impl GameServer {
    /// Name of the GameServer.
    pub const NAME: &str = "frogs-x7k2q-9d8wz";

    /// The value of an annotation that the server has set.
    pub fn sdk_annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(&format!("agones.dev/sdk-{key}")).map(String::as_str)
    }

    /// The value of a label that the server has set.
    pub fn sdk_label(&self, key: &str) -> Option<&str> {
        self.labels.get(&format!("agones.dev/sdk-{key}")).map(String::as_str)
    }

    /// Whether no state can be left any more.
    pub fn is_leaving(&self) -> bool {
        self.deletion_timestamp != 0 || ["Shutdown", "Unhealthy", "Error"].contains(&self.state.as_str())
    }

    pub(super) fn allocate(&mut self, outside: bool, number: u64) {
        "Allocated".clone_into(&mut self.state);
        self.allocated_outside = outside;
        // A time in the real one. What matters is that it changes.
        let time = format!("2026-01-01T00:00:{number:02}Z");
        self.annotations.insert("agones.dev/last-allocated".to_owned(), time);
    }

    /// As the gateway writes it: numbers of 64 bits are texts.
    pub(super) fn json(&self, version: usize) -> Value {
        let counters: BTreeMap<_, _> = self
            .counters
            .iter()
            .map(|(key, (count, capacity))| {
                (key, json!({ "count": count.to_string(), "capacity": capacity.to_string() }))
            })
            .collect();
        let lists: BTreeMap<_, _> = self
            .lists
            .iter()
            .map(|(key, (capacity, values))| {
                (key, json!({ "capacity": capacity.to_string(), "values": values }))
            })
            .collect();
        let ports: Vec<_> =
            self.ports.iter().map(|(name, port)| json!({ "name": name, "port": port })).collect();
        json!({
            "object_meta": {
                "name": Self::NAME,
                "namespace": "game",
                "uid": "0c1f9b3e-5f2e-4f0a-9b8c-2f6f2d1c7a11",
                "resource_version": version.to_string(),
                "generation": version.to_string(),
                "creation_timestamp": "1767225600",
                "deletion_timestamp": self.deletion_timestamp.to_string(),
                "annotations": self.annotations,
                "labels": self.labels,
            },
            "spec": {
                "health": {
                    "disabled": false,
                    "period_seconds": self.health_period,
                    "failure_threshold": 3,
                    "initial_delay_seconds": 5,
                },
            },
            "status": {
                "state": self.state,
                "address": self.address,
                "addresses": [{ "type": "ExternalIP", "address": self.address }],
                "ports": ports,
                "players": null,
                "counters": counters,
                "lists": lists,
            },
        })
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |elapsed| elapsed.as_secs())
}
