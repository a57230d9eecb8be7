//! What the editor warns of in the scene tree.

use godot::obj::WithBaseField as _;

use super::BackendServerRegistration;
use crate::config;
use crate::nodes::configuration_warnings;

impl BackendServerRegistration {
    pub(super) fn setup_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Err(error) = config::resolve(self.config.as_ref()).and_then(|config| config.check()) {
            warnings.push(error.message.to_string());
        }
        if self.server_name.is_empty() {
            warnings.push("Set \"Server Name\": the room list shows it.".to_owned());
        }
        let sets_port = || configuration_warnings::is_set_by_script(&self.to_gd().upcast(), "port");
        let is_port = (1..=65_535).contains(&self.port);
        if !is_port && (self.port != 0 || !sets_port()) {
            warnings.push("Set \"Port\", here or by script before registering: 1 to 65535.".to_owned());
        }
        if self.lacks_peer_auth() {
            warnings.push(
                "Add a BackendPeerAuth to this scene, with this node as its \"Registration\": without one, peers are not \
                 authenticated."
                    .to_owned(),
            );
        }
        if self.max_players < 1 {
            warnings.push("Set \"Max Players\": at least 1.".to_owned());
        }
        warnings
    }
}
