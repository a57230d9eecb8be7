//! `cargo xtask export`: the demo as client and dedicated server, ready to run without the editor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::godot::{self, Engine};
use crate::process::Running;
use crate::{library, workspace};

const TIMEOUT: Duration = Duration::from_mins(10);

/// Exports every preset of `demo/export_presets.cfg`.
pub fn run() -> Result<()> {
    let project = workspace::root().join("demo");
    let library = library::build(library::Profile::Release)?;
    // The editor loads the debug library while it exports.
    library::build(library::Profile::Debug)?;
    let engine = godot::provide()?;
    engine.import(&project)?;
    let files = self::project(&engine, &project, |_| Ok(()))?;
    let exported: Vec<PathBuf> = files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
    let status = verifying(&engine, &exported)?.wait(TIMEOUT)?;
    ensure!(status.success(), "the exports were not found free of secrets ({status})");
    if engine.templates.is_some() {
        println!(
            "These exports run on this machine, with the libraries in target/godot/. For players, use the templates of godotengine.org."
        );
    }
    // Last: who needs the exports has them all the same.
    library.is_small()
}

/// Exports every preset of an imported project, and returns the executables. `prepare` changes the engine's command.
pub fn project(
    engine: &Engine,
    project: &Path,
    prepare: impl Fn(&mut Command) -> Result<()>,
) -> Result<Vec<PathBuf>> {
    let file = project.join("export_presets.cfg");
    let presets = presets(&fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?);
    ensure!(!presets.is_empty(), "{} names no preset", file.display());
    let home = tempfile::Builder::new().prefix("export-").tempdir()?;
    place_templates(engine, home.path())?;
    let mut exported = Vec::new();
    for (name, path) in presets {
        let into = project.join(&path);
        let (folder, file) = into.parent().zip(into.file_name()).context("a preset exports to no file")?;
        fs::create_dir_all(folder)?;
        let into = folder.canonicalize()?.join(file);
        println!("exporting {name} to {}", into.display());
        let mut command = engine.command(home.path());
        prepare(&mut command)?;
        command.args(["--headless", "--path"]).arg(project).arg("--export-release").arg(&name).arg(&into);
        let mut export = Running::start("export", command)?;
        let status = export.wait(TIMEOUT)?;
        let complaint = export.lines().into_iter().find(|line| godot::is_complaint(line));
        if !status.success() || complaint.is_some() || !into.is_file() {
            bail!("exporting {name} failed ({status}) {}\n{}", complaint.unwrap_or_default(), export.tail());
        }
        exported.push(into);
    }
    Ok(exported)
}

/// Looks for keys and secrets in `files` with the addon's own script. Exits as that does: 1 when there is one.
pub fn verify(files: &[PathBuf]) -> Result<ExitCode> {
    let status = verifying(&godot::provide()?, files)?.wait(TIMEOUT)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn verifying(engine: &Engine, files: &[PathBuf]) -> Result<Running> {
    let home = tempfile::Builder::new().prefix("export-").tempdir()?;
    let mut command = engine.command(home.path());
    command.args(["--headless", "--no-header", "--script"]);
    command.arg(workspace::root().join("addons/backend_client/export/verify_export.gd")).arg("--");
    for file in files {
        command.arg(file.canonicalize().with_context(|| format!("no {}", file.display()))?);
    }
    Running::start_echoing("verify-export", command, |_| true)
}

/// Puts the distribution's templates where the engine will look for them in `home`, or makes it look in the
/// developer's own folder.
fn place_templates(engine: &Engine, home: &Path) -> Result<()> {
    let folder = home.join("xdg_data_home/godot/export_templates");
    let Some(templates) = &engine.templates else {
        let own =
            own_templates().context("no export templates: in Godot, Editor > Manage Export Templates")?;
        fs::create_dir_all(folder.parent().unwrap_or(home))?;
        return link(&own, &folder);
    };
    let version = folder.join(template_version(&engine.version));
    fs::create_dir_all(&version)?;
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    link(&templates.debug, &version.join(format!("linux_debug.{architecture}")))?;
    link(&templates.release, &version.join(format!("linux_release.{architecture}")))
}

fn own_templates() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map_or_else(
        || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")),
        |folder| Some(folder.into()),
    )?;
    Some(data.join("godot/export_templates")).filter(|folder| folder.is_dir())
}

/// The templates' folder of a version such as `4.6.3.stable.official.1234abcd`: without build name and commit.
fn template_version(version: &str) -> String {
    let parts = version.split('.');
    let numbers = parts.clone().take_while(|part| part.chars().all(|letter| letter.is_ascii_digit())).count();
    parts.take(numbers + 1).collect::<Vec<_>>().join(".")
}

/// Names and export paths of a project's presets.
fn presets(text: &str) -> Vec<(String, String)> {
    let mut presets = Vec::new();
    let mut name = None;
    for line in text.lines() {
        let value = |key: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.trim_matches('"').to_owned());
        name = value("name").or(name);
        if let Some(path) = value("export_path").filter(|path| !path.is_empty()) {
            presets.extend(name.take().map(|name| (name, path)));
        }
    }
    presets
}

#[cfg(unix)]
fn link(target: &Path, at: &Path) -> Result<()> {
    Ok(std::os::unix::fs::symlink(target, at)?)
}

#[cfg(not(unix))]
fn link(_target: &Path, _at: &Path) -> Result<()> {
    bail!("exporting is scripted for Unix systems only; use Project > Export in the editor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_templates_of_a_version() {
        assert_eq!(template_version("4.6.3.stable.debian4.6.3+ds-2"), "4.6.3.stable");
        assert_eq!(template_version("4.7.beta1.official.1234abcd"), "4.7.beta1");
    }

    #[test]
    fn reads_presets_with_their_paths() {
        let text = "[preset.0]\n\nname=\"Client\"\nplatform=\"Linux\"\nexport_path=\"export/client/frog\"\n\n[preset.0.options]\n\n\
                    [preset.1]\nname=\"Server\"\nexport_path=\"\"\n[preset.2]\nname=\"Other\"\nexport_path=\"export/other\"\n";
        let expected = [("Client", "export/client/frog"), ("Other", "export/other")];
        assert_eq!(presets(text), expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }
}
