//! The starter project: `templates/starter`, with the scenes that the editor's setup assistant writes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::archive::Archive;
use crate::workspace;

const PROJECT: [&str; 4] = [".gitignore", "README.md", "export_presets.cfg", "project.godot"];
const SCENES: [&str; 6] = [
    "client/client.gd",
    "client/client.tscn",
    "main.gd",
    "main.tscn",
    "server/server.gd",
    "server/server.tscn",
];
/// The name of the game, as the assistant's scenes have it.
const GAME: &str = "{game}";

/// Writes the project as a zip file, without the addon.
pub fn write(path: &Path) -> Result<PathBuf> {
    let project = workspace::root().join("templates/starter");
    let scenes = workspace::root().join("addons/backend_client/editor/setup/templates");
    let mut archive = Archive::create(path)?;
    for name in PROJECT {
        archive.add(name, &project.join(name), false)?;
    }
    for name in SCENES {
        let file = scenes.join(name);
        let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        archive.add_text(name, &text.replace(GAME, "Starter"))?;
    }
    archive.finish()
}
