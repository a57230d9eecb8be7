//! Checks before a server is listed: whether its port is open, and whether peers are authenticated.

use godot::classes::multiplayer_peer::ConnectionStatus;
use godot::classes::{MultiplayerApi, OfflineMultiplayerPeer, SceneMultiplayer};
use godot::prelude::*;

use super::BackendServerRegistration;
use crate::peer_auth::scene_multiplayer::Api;
use crate::runtime::worker_threads;

impl BackendServerRegistration {
    /// Whether the scene that this node belongs to has no [`crate::nodes::backend_peer_auth::BackendPeerAuth`].
    pub(super) fn lacks_peer_auth(&self) -> bool {
        self.base().get_owner().is_some_and(|scene| {
            scene.find_children_ex("*").type_("BackendPeerAuth").owned(false).done().is_empty()
        })
    }

    /// Logs warnings only: a game may have its own authentication.
    pub(super) fn check_admission(&self) {
        let api = self.base().get_multiplayer();
        let serves = api.clone().is_some_and(serves);
        if !serves && let Ok(port) = u16::try_from(self.port) {
            worker_threads::spawn(async move { warn_if_closed(port) });
        }
        let Some(Ok(api)) = api.map(Gd::try_cast::<SceneMultiplayer>) else { return };
        if serves && !api.get_auth_callback().is_valid() {
            tracing::warn!(
                "peers of this server are not authenticated: there is no BackendPeerAuth. Add one to the scene, \
                 with its registration set to {}",
                self.base().get_path()
            );
        }
    }
}

/// Worker: the tables of a busy machine are long.
fn warn_if_closed(port: u16) {
    if is_bound(port) == Some(false) {
        tracing::warn!(
            "nothing listens on port {port} of this machine: players cannot connect. Open the server before \
             register(), or set the port that it listens on"
        );
    }
}

fn serves(api: Gd<MultiplayerApi>) -> bool {
    match api.clone().try_cast::<SceneMultiplayer>() {
        Ok(scene) => Api(scene).is_serving(),
        Err(_) => api.get_multiplayer_peer().is_some_and(|peer| {
            peer.get_connection_status() == ConnectionStatus::CONNECTED
                && peer.get_unique_id() == 1
                && peer.try_cast::<OfflineMultiplayerPeer>().is_err()
        }),
    }
}

/// Whether any socket of this machine, or container, has this port. `None`: it cannot be known without taking the port.
#[cfg(target_os = "linux")]
fn is_bound(port: u16) -> Option<bool> {
    let tables = ["udp", "udp6", "tcp", "tcp6"];
    let tables: Vec<String> =
        tables.iter().filter_map(|name| std::fs::read_to_string(format!("/proc/net/{name}")).ok()).collect();
    (!tables.is_empty()).then(|| tables.iter().any(|table| has_port(table, port)))
}

#[cfg(not(target_os = "linux"))]
const fn is_bound(_port: u16) -> Option<bool> {
    None
}

/// A table of the kernel: `sl local_address rem_address …`, addresses as `0100007F:1E61`.
#[cfg(any(target_os = "linux", test))]
fn has_port(table: &str, port: u16) -> bool {
    let local = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .and_then(|address| address.rsplit_once(':'))
            .is_some_and(|(_, text)| u16::from_str_radix(text, 16) == Ok(port))
    };
    table.lines().skip(1).any(local)
}

#[cfg(test)]
mod tests;
