//! What the room list shows of a server: from the node's properties to its entry.

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{RoomOptions, RoomPassword, check_attributes};
use backend_client::registration::ServerDescription;
use godot::prelude::*;

use super::BackendServerRegistration;
use super::query::Opening;
use crate::class_enum::class_enum;
use crate::config;
use crate::resources::backend_room_options::BackendRoomOptions;
use crate::resources::visibility::Visibility;
use crate::shutdown::host_notifier;
use crate::variant_json::{self, gstring};

class_enum! {
    BackendServerRegistration::VISIBILITY: "Visibility" {
        /// The room is listed, and joined by its id.
        VISIBILITY_PUBLIC = Visibility::Public as i64;
        /// The room is not listed. It is joined by its id or its invite code.
        VISIBILITY_UNLISTED = Visibility::Unlisted as i64;
        /// The room is not listed, and can be joined by its invite code only.
        VISIBILITY_PRIVATE = Visibility::Private as i64;
    }
}

/// Makes the server the room that it was started for. What the room does not name stays the server's own.
pub(super) fn take_room_over(node: &mut Gd<BackendServerRegistration>, room: &RoomOptions) {
    {
        let mut server = node.bind_mut();
        let server = &mut *server;
        for (own, requested) in [
            (&mut server.server_name, &room.name),
            (&mut server.map, &room.map),
            (&mut server.mode, &room.mode),
        ] {
            if !requested.is_empty() {
                *own = gstring(requested);
            }
        }
        if let Some(max_players) = room.max_players {
            server.max_players = max_players.into();
        }
        if !room.tags.is_empty() {
            server.tags = room.tags.iter().map(gstring).collect();
        }
        if !room.attributes.is_empty() {
            server.attributes = variant_json::attributes_dictionary(&room.attributes);
        }
        server.visibility = room.visibility.into();
        server.update_description();
        if let Some(registration) = server.handle() {
            registration.take_room_over();
        }
    }
    // Open to handlers that call back into the node.
    node.signals().room_assigned().emit(&BackendRoomOptions::of(room));
}

#[godot_api(secondary)]
impl BackendServerRegistration {
    /// Sets one custom attribute. A heartbeat with the change is sent at once; changes within a second are sent together.
    /// [param value] is a [String], an [int], a [float] or a [bool], or [code]null[/code] to remove the attribute. A value that
    /// exceeds a limit of [member attributes] causes a warning in the log and changes nothing.
    /// ```gdscript
    /// registration.set_attribute("round", 3)
    /// registration.set_attribute("difficulty", 0.5)
    /// ```
    #[func]
    fn set_attribute(&mut self, name: GString, value: Variant) {
        let mut attributes = self.attributes.duplicate_shallow();
        if value.is_nil() {
            attributes.remove(&name);
        } else {
            attributes.set(&name, &value);
        }
        self.apply_attributes(attributes);
    }

    /// Requests a new invite code and invalidates the previous one. [signal invite_code_changed] is emitted when the new code
    /// arrives.
    #[func]
    fn renew_invite_code(&self) {
        let renewed = self.connected().and_then(|registration| registration.renew_invite_code());
        if let Err(error) = renewed {
            tracing::warn!(code = error.code(), "the invite code is not renewed: {error}");
        }
    }
}

impl BackendServerRegistration {
    pub(super) fn registering(
        &self,
    ) -> Result<impl Future<Output = Result<String, ClientError>> + Send + 'static, ClientError> {
        let mut description = self.description()?;
        let players =
            u32::try_from(self.players).map_err(|_| ClientError::field("players", "must be 0 to 100000"))?;
        let answering = self.begin_answering()?;
        let registration = match self.connected() {
            Ok(registration) => registration,
            Err(error) => {
                // A server without a backend is still found on the local network.
                if let Some(answering) = answering {
                    answering.open_alone();
                }
                return Err(error);
            }
        };
        registration.set_players(players)?;
        let is_placed_by_host = self.is_placed_by_host();
        // As the server listens; the host may map it.
        description.port = self.own_port()?;
        Ok(async move {
            description.query_port = answering.and_then(Opening::open);
            if is_placed_by_host {
                host_notifier::wait_for_address().await;
                host_notifier::place(&mut description);
            }
            registration.register(description).await
        })
    }

    pub(super) fn update_description(&self) {
        self.publish();
        let Some(registration) = self.handle() else { return };
        let described = self.description().and_then(|description| registration.describe(description));
        // What is listed stays as it was. Before it is listed, nothing has to be complete.
        if let Err(error) = described
            && registration.server_id().is_some()
        {
            tracing::warn!(code = error.code(), "the server's entry is not changed: {error}");
        }
    }

    pub(super) fn warn_if_registered(&self, property: &str, changes: bool) {
        if changes && self.is_registered() {
            tracing::warn!(
                "{property} was changed while the server is registered, without effect: set it before registering"
            );
        }
    }

    pub(super) fn description(&self) -> Result<ServerDescription, ClientError> {
        let certificate = self.identity()?.map(|identity| identity.certificate.clone());
        let address = config::public_address(&self.public_address.to_string());
        let is_placed_by_host = address.is_none();
        let mut description = ServerDescription {
            name: self.server_name.to_string(),
            address: address.unwrap_or_default(),
            port: self.own_port()?,
            query_port: self.bound_query_port(),
            map: self.map.to_string(),
            mode: self.mode.to_string(),
            region: self.region.to_string(),
            version: self.version.to_string(),
            tags: self.tags.as_slice().iter().map(ToString::to_string).collect(),
            max_players: u32::try_from(self.max_players)
                .map_err(|_| ClientError::field("max_players", "must be 1 to 100000"))?,
            certificate,
            visibility: self.visibility.into(),
            password: RoomPassword(self.password.to_string()),
            attributes: variant_json::attributes("attributes", &self.attributes)?,
        };
        if is_placed_by_host {
            host_notifier::place(&mut description);
        }
        Ok(description)
    }

    /// Whether the server is registered where its host says.
    fn is_placed_by_host(&self) -> bool {
        config::public_address(&self.public_address.to_string()).is_none()
    }

    /// The port that the server listens on.
    fn own_port(&self) -> Result<u16, ClientError> {
        u16::try_from(self.port).map_err(|_| ClientError::field("port", "must be 1 to 65535"))
    }

    /// Takes `attributes` over if they keep their limits, so that one that breaks them is not in the way of the next ones.
    pub(super) fn apply_attributes(&mut self, attributes: VarDictionary) {
        let checked = variant_json::attributes("attributes", &attributes)
            .and_then(|attributes| Ok(check_attributes("attributes", &attributes)?));
        if let Err(error) = checked {
            tracing::warn!(code = error.code(), "the attributes are not changed: {error}");
            return;
        }
        self.attributes = attributes;
        self.update_description();
    }
}
