//! What the Inspector warns about, where several nodes or settings together are the mistake.

use std::time::Duration;

use backend_settings::HOST_GRACE_SECONDS;
use godot::prelude::*;

use crate::config::{self, LocalFolder, project_settings};

/// The nodes of `class` in the scene of `node`, this one included.
pub fn count_in_scene(node: &Gd<Node>, class: &str) -> usize {
    let scene = node.get_owner().unwrap_or_else(|| node.clone());
    let below = scene.find_children_ex("*").type_(class).owned(false).done().len();
    below + usize::from(scene.is_class(class))
}

/// Whether a script of the scene sets a property of this name, here or on another node.
pub fn is_set_by_script(node: &Gd<Node>, property: &str) -> bool {
    let scene = node.get_owner().unwrap_or_else(|| node.clone());
    let mut nodes: Vec<Gd<Node>> = scene.find_children_ex("*").owned(false).done().iter_shared().collect();
    nodes.push(scene);
    nodes.iter().any(|one| {
        let script = one.get_script();
        script.is_some_and(|script| assigns(&script.get_source_code().to_string(), property))
    })
}

fn assigns(source: &str, property: &str) -> bool {
    source.match_indices(&format!(".{property}")).any(|(at, found)| {
        let rest = source[at + found.len()..].trim_start();
        rest.starts_with('=') && !rest.starts_with("==")
    })
}

/// A grace that the host does not wait for.
pub fn grace(own_seconds: f64) -> Option<String> {
    let host = project_settings::number(&HOST_GRACE_SECONDS);
    let grace = config::shutdown_grace(own_seconds);
    let is_too_long = Duration::try_from_secs_f64(host).is_ok_and(|host| !host.is_zero() && grace >= host);
    is_too_long.then(|| {
        format!(
            "The grace of {} s is not shorter than the {host} s after which the host kills the process (Project Settings → Backend \
             Client → Shutdown → Host Grace Seconds): what is unsent then stays in the journal. Shorten \"Grace Seconds\", or give \
             the process more time on the host and here.",
            grace.as_secs_f64()
        )
    })
}

/// A folder of a setting whose content ends with the container or the machine.
pub fn passing_folder(setting: &str, folder: &LocalFolder) -> Option<String> {
    let why = folder.why_passing()?;
    Some(format!(
        "Project Settings → Backend Client → {setting} → Folder: what is in {} does not survive the container: {why}. Name a folder \
         on a volume.",
        folder.folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_assignments_only() {
        assert!(assigns("$BackendServerRegistration.port = 7777", "port"));
        assert!(assigns("registration.port=port", "port"));
        assert!(!assigns("if registration.port == 0:", "port"));
        assert!(!assigns("registration.port_name = 1", "port"));
        assert!(!assigns("var port = 1", "port"));
    }
}
