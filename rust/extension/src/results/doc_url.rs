//! Where the documentation of an error is.

use backend_settings::DOCUMENTATION_BASE_URL;
use godot::classes::{GDExtensionManager, ProjectSettings};
use godot::prelude::*;

/// The file by which the engine loads the addon, in its folder.
const EXTENSION: &str = "backend_client.gdextension";
/// Where the addon is, unless the engine says otherwise.
const ADDON: &str = "res://addons/backend_client/";

/// The place that explains this code: in the published guide, or on the page that comes with the addon.
pub fn doc_url(code: &str) -> String {
    let published = ProjectSettings::singleton().get_setting(DOCUMENTATION_BASE_URL.path);
    let published = published.try_to::<GString>().unwrap_or_default().to_string();
    match published.trim().trim_end_matches('/') {
        "" => format!("{}docs/errors.md#{code}", addon_folder()),
        base => format!("{base}/errors.html#{code}"),
    }
}

/// The folder of the addon, which a game may have renamed.
fn addon_folder() -> String {
    let loaded = GDExtensionManager::singleton().get_loaded_extensions();
    let own = loaded.as_slice().iter().map(ToString::to_string).find_map(|path| {
        let folder = path.strip_suffix(EXTENSION)?;
        folder.ends_with('/').then(|| folder.to_owned())
    });
    own.unwrap_or_else(|| ADDON.to_owned())
}
