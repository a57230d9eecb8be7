//! What the room list shows of a server: from the node's properties to its entry.

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{RoomPassword, RoomVisibility, check_attributes};
use backend_client::registration::ServerDescription;
use godot::prelude::*;

use super::BackendServerRegistration;
use crate::config;
use crate::variant_json;

/// The values of [`BackendServerRegistration::visibility`]. gdext registers no enums yet, so scripts use the class's constants.
#[derive(GodotConvert, Var, Export, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[godot(via = i64)]
pub enum Visibility {
    #[default]
    Public = 0,
    Unlisted = 1,
    Private = 2,
}

impl From<Visibility> for RoomVisibility {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Unlisted => Self::Unlisted,
            Visibility::Private => Self::Private,
        }
    }
}

impl BackendServerRegistration {
    pub(super) fn registering(
        &self,
    ) -> Result<impl Future<Output = Result<String, ClientError>> + Send + 'static, ClientError> {
        let description = self.description()?;
        let players =
            u32::try_from(self.players).map_err(|_| ClientError::field("players", "must be 0 to 100000"))?;
        let registration = self.connected()?;
        registration.set_players(players)?;
        Ok(async move { registration.register(description).await })
    }

    pub(super) fn update_description(&self) {
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
        Ok(ServerDescription {
            name: self.server_name.to_string(),
            address: config::host(&self.public_address.to_string(), 0.0).public_address(),
            port: u16::try_from(self.port).map_err(|_| ClientError::field("port", "must be 1 to 65535"))?,
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
        })
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
