//! The GameServer as the sidecar shows it, and the calls' bodies. Numbers of 64 bits are texts in its JSON (proto3's mapping).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::host::PublicAddress;

/// Prefix of what Agones itself, and servers through their sidecars, write into labels and annotations.
const OWN_PREFIX: &str = "agones.dev/";
/// Prefix of what a server writes.
pub const SDK_PREFIX: &str = "agones.dev/sdk-";

/// What a server sees of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GameServer {
    pub object_meta: Meta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Meta {
    pub name: String,
    /// Seconds since 1970; 0: it is not being deleted.
    #[serde(deserialize_with = "integer")]
    pub deletion_timestamp: i64,
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Spec {
    pub health: Health,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Health {
    pub disabled: bool,
    #[serde(deserialize_with = "integer")]
    pub period_seconds: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    pub state: String,
    pub address: String,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<Port>,
    #[serde(deserialize_with = "nullable")]
    pub counters: BTreeMap<String, Counter>,
    #[serde(deserialize_with = "nullable")]
    pub lists: BTreeMap<String, List>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Port {
    pub name: String,
    pub port: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Counter {
    #[serde(deserialize_with = "integer")]
    pub count: i64,
    #[serde(deserialize_with = "integer")]
    pub capacity: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct List {
    #[serde(deserialize_with = "integer")]
    pub capacity: i64,
    #[serde(deserialize_with = "nullable")]
    pub values: Vec<String>,
}

/// Where a GameServer is in its life, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not ready yet.
    Starting,
    /// It has asked to be ready.
    RequestReady,
    Ready,
    Reserved,
    Allocated,
    /// It will be deleted: the reason, as a word for programs.
    Leaving(&'static str),
    /// A state of a later version.
    Unknown,
}

impl GameServer {
    /// Where it is in its life.
    pub fn stage(&self) -> Stage {
        if self.object_meta.deletion_timestamp != 0 {
            return Stage::Leaving("agones_deleted");
        }
        match self.status.state.as_str() {
            "PortAllocation" | "Creating" | "Starting" | "Scheduled" => Stage::Starting,
            "RequestReady" => Stage::RequestReady,
            "Ready" => Stage::Ready,
            "Reserved" => Stage::Reserved,
            "Allocated" => Stage::Allocated,
            "Shutdown" => Stage::Leaving("agones_shutdown"),
            "Unhealthy" => Stage::Leaving("agones_unhealthy"),
            "Error" => Stage::Leaving("agones_error"),
            _ => Stage::Unknown,
        }
    }

    /// Where players reach it; `None` until it has a node.
    pub fn public_address(&self) -> Option<PublicAddress> {
        let status = &self.status;
        if status.address.is_empty() {
            return None;
        }
        let ports = status.ports.iter().filter(|port| port.port > 0);
        let ports = ports.map(|port| (port.name.clone(), port.port)).collect();
        Some(PublicAddress { address: status.address.clone(), ports })
    }

    /// Labels and annotations of others than Agones and this server: an allocation may bring them.
    pub fn metadata_of_others(&self) -> Metadata {
        let of_others = |all: &BTreeMap<String, String>| {
            let others = all.iter().filter(|(key, _)| !key.starts_with(OWN_PREFIX));
            others.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        Metadata(of_others(&self.object_meta.labels), of_others(&self.object_meta.annotations))
    }
}

/// Labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>, BTreeMap<String, String>);

/// A message of the watch.
#[derive(Debug, Deserialize)]
pub struct WatchMessage {
    pub result: Option<GameServer>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Integer {
    Number(i64),
    Text(String),
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match Option::<Integer>::deserialize(deserializer)? {
        None => Ok(0),
        Some(Integer::Number(number)) => Ok(number),
        Some(Integer::Text(text)) => text.parse().map_err(serde::de::Error::custom),
    }
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sidecar_shows_is_read() {
        let text = r#"{"result":{"object_meta":{"name":"fleet-x7","namespace":"game","uid":"1","resource_version":"5",
            "generation":"1","creation_timestamp":"1700000000","deletion_timestamp":"0","annotations":{"agones.dev/ready-container-id":"x"},
            "labels":{"agones.dev/fleet":"f","map":"pond"}},"spec":{"health":{"disabled":false,"period_seconds":5,"failure_threshold":3,
            "initial_delay_seconds":5}},"status":{"state":"Ready","address":"192.0.2.1","addresses":[{"type":"ExternalIP","address":"192.0.2.1"}],
            "ports":[{"name":"query","port":7100},{"name":"game","port":7033}],"players":null,"counters":{"players":{"count":"1","capacity":"8"}},
            "lists":{"players":{"capacity":"4","values":["a"]}}}}}"#;
        let message: WatchMessage = serde_json::from_str(text).expect("a message");
        let server = message.result.expect("a GameServer");
        assert_eq!(server.stage(), Stage::Ready);
        let address = server.public_address().expect("an address");
        assert_eq!(
            (address.address.as_str(), address.game_port(), address.query_port()),
            ("192.0.2.1", Some(7033), Some(7100))
        );
        assert_eq!(server.status.counters["players"], Counter { count: 1, capacity: 8 });
        assert_eq!(server.status.lists["players"].values, ["a"]);
        assert_eq!(server.metadata_of_others().0.keys().collect::<Vec<_>>(), ["map"]);
    }

    #[test]
    fn an_older_sidecar_shows_less() {
        let server: GameServer =
            serde_json::from_str(r#"{"status":{"state":"Scheduled","ports":null}}"#).expect("a GameServer");
        assert_eq!((server.stage(), server.public_address()), (Stage::Starting, None));
    }

    #[test]
    fn a_deletion_counts_more_than_the_state() {
        let text = r#"{"object_meta":{"deletion_timestamp":"1700000000"},"status":{"state":"Allocated"}}"#;
        let server: GameServer = serde_json::from_str(text).expect("a GameServer");
        assert_eq!(server.stage(), Stage::Leaving("agones_deleted"));
    }
}
