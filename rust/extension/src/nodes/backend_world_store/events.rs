//! The world's events, as signals.

use backend_client::world_store::Event;
use godot::prelude::*;

use super::BackendWorldStore;
use crate::results::backend_error::Failure;
use crate::variant_json::gstring;

/// Main thread, without a borrow: handlers call back into the node.
pub(super) fn announce(id: InstanceId, event: Event) {
    // The node may have been freed.
    let Ok(node) = Gd::<BackendWorldStore>::try_from_instance_id(id) else { return };
    match event {
        Event::SavedLocally { name } => node.signals().saved_locally().emit(&name),
        Event::Saved { name, version } => node.signals().saved().emit(&name, version),
        Event::SaveFailed { name, error } => {
            node.signals().save_failed().emit(&name, &Failure::from(error).into_object());
        }
        Event::LeaseLost => node.signals().lease_lost().emit(),
        Event::PutAside { folder, names } => {
            let folder = folder.display().to_string();
            tracing::warn!(folder, chunks = names.len(), "changes of a world were set aside");
            let names: PackedStringArray = names.iter().map(gstring).collect();
            node.signals().put_aside().emit(&folder, &names);
        }
    }
}
