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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::archive;

    /// Each scene of the assistant, with no place left to fill in.
    #[test]
    fn the_starter_is_complete() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let project = folder.path().join("project");
        archive::unpack(&write(&folder.path().join("starter.zip"))?, &project)?;
        let scenes = workspace::root().join("addons/backend_client/editor/setup/templates");
        for part in ["", "client", "server"] {
            for entry in fs::read_dir(scenes.join(part))? {
                let name = Path::new(part).join(entry?.file_name());
                let is_scene = name.extension().is_some_and(|kind| kind == "gd" || kind == "tscn");
                if is_scene {
                    let text = fs::read_to_string(project.join(&name))
                        .with_context(|| format!("no {} in the starter", name.display()))?;
                    assert!(!text.contains(GAME), "{}: {GAME} was not filled in", name.display());
                }
            }
        }
        let main_scene = fs::read_to_string(project.join("project.godot"))?;
        assert!(main_scene.contains("run/main_scene=\"res://main.tscn\""), "{main_scene}");
        Ok(())
    }
}
