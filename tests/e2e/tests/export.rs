//! Exports: what belongs to the server stays out of players' downloads, and what got in nevertheless is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use test_harness::backend::Backend;
use test_harness::programs;

const PRESETS: &str = "[preset.0]\n\nname=\"Client\"\nplatform=\"Linux\"\nrunnable=true\ndedicated_server=false\n\
    custom_features=\"\"\nexport_filter=\"all_resources\"\ninclude_filter=\"\"\nexclude_filter=\"\"\n\
    export_path=\"client.x86_64\"\n\n[preset.0.options]\n\nbinary_format/embed_pck=false\n\n\
    [preset.1]\n\nname=\"Server\"\nplatform=\"Linux\"\nrunnable=false\ndedicated_server=true\n\
    custom_features=\"\"\nexport_filter=\"all_resources\"\ninclude_filter=\"\"\nexclude_filter=\"\"\n\
    export_path=\"server.x86_64\"\n\n[preset.1.options]\n\nbinary_format/embed_pck=false\n";

/// A project whose scripts are `scripts`, by name and text.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(scripts: &[(&str, String)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = "config_version=5\n\n[application]\n\nconfig/name=\"Exported\"\n\n[backend_client]\n\n\
                        export/server_only=PackedStringArray(\"res://server/\")\n";
        fs::write(folder.path().join("project.godot"), settings)?;
        fs::write(folder.path().join("export_presets.cfg"), PRESETS)?;
        for (name, text) in scripts {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            fs::write(path, text)?;
        }
        Ok(Self { folder })
    }

    /// Further sections of `project.godot`.
    fn with_settings(self, sections: &str) -> Result<Self> {
        let path = self.folder.path().join("project.godot");
        fs::write(&path, fs::read_to_string(&path)? + sections)?;
        Ok(self)
    }

    /// The addon with a program where its package has the backend, and exports that include every file.
    fn with_packaged_addon(self) -> Result<Self> {
        let addon = programs::workspace().canonicalize()?.join("addons/backend_client");
        let own = self.folder.path().join("addons/backend_client");
        fs::create_dir_all(own.join("bin"))?;
        for entry in fs::read_dir(&addon)? {
            let entry = entry?;
            if entry.file_name() != "bin" {
                std::os::unix::fs::symlink(entry.path(), own.join(entry.file_name()))?;
            }
        }
        std::os::unix::fs::symlink(addon.join("bin/debug"), own.join("bin/debug"))?;
        fs::write(own.join("bin/backend-server.linux-x86_64"), "the program")?;
        fs::write(
            self.folder.path().join("export_presets.cfg"),
            PRESETS.replace("include_filter=\"\"", "include_filter=\"*.cfg,*.txt,*backend-server*\""),
        )?;
        Ok(self)
    }

    fn with_addon(self) -> Result<Self> {
        let addons = programs::workspace().canonicalize()?.join("addons");
        std::os::unix::fs::symlink(addons, self.folder.path().join("addons"))?;
        Ok(self)
    }

    /// Exports `preset` without the engine's own program, and returns the pack and what was said.
    fn export(&self, preset: &str, file: &str) -> Result<(PathBuf, String)> {
        let pack = self.folder.path().join(file);
        let path = self.folder.path().to_string_lossy().into_owned();
        let imported = godot(&["--headless", "--import", "--path", &path])?;
        ensure!(imported.status.success(), "{}", text(&imported));
        let exported =
            godot(&["--headless", "--path", &path, "--export-pack", preset, &pack.to_string_lossy()])?;
        ensure!(pack.is_file(), "{}", text(&exported));
        Ok((pack, text(&exported)))
    }
}

fn godot(arguments: &[&str]) -> Result<Output> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(programs::godot()?);
    command.args(arguments).env("HOME", home.path()).env_remove("BACKEND_SERVER_KEY");
    for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
        command.env(name, home.path().join(name));
    }
    Ok(command.output()?)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn verify(files: &[&Path]) -> Result<(i32, String)> {
    let script = programs::workspace().join("addons/backend_client/export/verify_export.gd");
    let script = script.to_string_lossy().into_owned();
    let files: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let mut arguments = vec!["--headless", "--script", &script, "--"];
    arguments.extend(files.iter().map(String::as_str));
    let output = godot(&arguments)?;
    Ok((output.status.code().context("no exit code")?, text(&output)))
}

/// A key that opens a backend.
fn a_server_key() -> Result<String> {
    let backend = Backend::start()?;
    Ok(fs::read_to_string(backend.server_key_file())?.trim().to_owned())
}

fn script(constant: &str) -> String {
    format!("extends Node\n\nconst TEXT: String = \"{constant}\"\n")
}

#[test]
fn server_only_files_and_keys_stay_out_of_a_clients_export() -> Result<()> {
    let key = a_server_key()?;
    let project = Project::new(&[
        ("client.gd", script("a word for players")),
        ("server/secrets.gd", script("a word for servers")),
        ("careless.gd", script(&key)),
        (
            "needy.gd",
            "extends Node\n\nconst SERVER: GDScript = preload(\"res://server/secrets.gd\")\n".into(),
        ),
    ])?
    .with_addon()?;

    let (client, said) = project.export("Client", "client.zip")?;
    let names = entries(&client)?;
    ensure!(names.iter().any(|name| name.starts_with("client.gd")), "{names:?}\n{said}");
    ensure!(!names.iter().any(|name| name.starts_with("server/")), "{names:?}\n{said}");
    ensure!(!names.iter().any(|name| name.starts_with("careless.gd")), "{names:?}\n{said}");
    ensure!(!names.iter().any(|name| name.contains("backend_client/export/")), "{names:?}\n{said}");
    ensure!(said.contains("res://careless.gd holds a key of the backend"), "{said}");
    ensure!(said.contains("res://needy.gd needs res://server/secrets.gd"), "{said}");
    ensure!(!said.contains(&key), "the key itself is shown");
    let (code, verdict) = verify(&[&client])?;
    ensure!(code == 0, "{verdict}");

    let (server, said) = project.export("Server", "server.zip")?;
    let names = entries(&server)?;
    ensure!(names.iter().any(|name| name.starts_with("server/secrets.gd")), "{names:?}\n{said}");
    ensure!(!names.iter().any(|name| name.starts_with("careless.gd")), "{names:?}\n{said}");
    Ok(())
}

#[test]
fn what_is_for_the_editor_is_in_no_export() -> Result<()> {
    let project = Project::new(&[
        ("game.gd", script("a word for players")),
        ("backend-server.txt", "a file of the game".into()),
    ])?
    .with_settings(
        "\n[editor_plugins]\n\nenabled=PackedStringArray(\"res://addons/backend_client/plugin.cfg\")\n",
    )?
    .with_packaged_addon()?;
    for preset in ["Client", "Server"] {
        let (pack, said) = project.export(preset, &format!("{preset}.zip"))?;
        let names = entries(&pack)?;
        for wanted in ["game.gd", "backend-server.txt", "addons/backend_client/ui/login_form.gd"] {
            ensure!(names.iter().any(|name| name.starts_with(wanted)), "no {wanted}: {names:?}\n{said}");
        }
        let own = |name: &&String| {
            ["bin/backend-server", "editor/", "export/", "plugin.cfg"]
                .iter()
                .any(|part| name.starts_with(&format!("addons/backend_client/{part}")))
        };
        let left: Vec<_> = names.iter().filter(own).collect();
        ensure!(left.is_empty(), "{preset} has {left:?}\n{said}");
    }
    Ok(())
}

#[test]
fn a_key_in_settings_scenes_and_other_files_is_not_exported() -> Result<()> {
    let key = a_server_key()?;
    let sections = format!(
        "\n[game]\n\nbackend/key=\"{key}\"\nbackend/deep={{\"list\": [\"{key}\"]}}\nbackend/word=\"a word\"\n\
         backend/other.server=\"{key}\"\nbackend/bytes=PackedByteArray({})\n\n[autoload]\n\nKeeper=\"*res://keeper.tscn\"\n",
        key.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ")
    );
    let scene =
        format!("[gd_scene format=3]\n\n[node name=\"Keeper\" type=\"Node\"]\nmetadata/key = \"{key}\"\n");
    let resource =
        format!("[gd_resource type=\"Resource\" format=3]\n\n[resource]\nmetadata/key = \"{key}\"\n");
    let project = Project::new(&[
        ("plain.gd", script("a word for players")),
        ("keeper.tscn", scene),
        ("keeper.tres", resource),
        ("keeper.json", format!("{{\"key\": \"{key}\"}}")),
        ("override.cfg", format!("[game]\n\nbackend/key=\"{key}\"\n")),
    ])?
    .with_settings(&sections)?;
    fs::write(
        project.folder.path().join("export_presets.cfg"),
        PRESETS.replace("include_filter=\"\"", "include_filter=\"*.json,*.cfg\""),
    )?;

    // Without the addon, the settings are what gives it away even if nothing else does.
    let (unguarded, _) = project.export("Client", "unguarded.zip")?;
    let (code, verdict) = verify(&[&unguarded])?;
    ensure!(code == 1 && verdict.contains("project.binary: a key of the backend"), "{code} {verdict}");

    let project = project.with_addon()?;
    for preset in ["Client", "Server"] {
        let (pack, said) = project.export(preset, &format!("{preset}.zip"))?;
        for setting in
            ["game/backend/key", "game/backend/deep", "game/backend/other.server", "game/backend/bytes"]
        {
            let words = format!("the project setting {setting} holds a key of the backend");
            ensure!(said.contains(&words), "{setting} is not named: {said}");
        }
        for file in ["keeper.tscn", "keeper.tres", "keeper.json", "override.cfg"] {
            ensure!(said.contains(&format!("res://{file} holds a key of the backend")), "{file}: {said}");
        }
        ensure!(!said.contains("game/backend/word"), "{said}");
        ensure!(!said.contains(&key), "the key itself is shown");
        ensure!(entries(&pack)?.iter().any(|name| name.starts_with("plain.gd")), "{said}");
        let (code, verdict) = verify(&[&pack])?;
        ensure!(code == 0, "{preset}: {verdict}");
    }
    // The project itself is as it was.
    let settings = fs::read_to_string(project.folder.path().join("project.godot"))?;
    ensure!(settings.contains(&sections), "{settings}");
    Ok(())
}

#[test]
fn keys_and_secrets_in_an_export_are_found() -> Result<()> {
    let key = a_server_key()?;
    let mut mistyped = key.clone();
    mistyped.replace_range(key.len() - 1.., if key.ends_with('0') { "1" } else { "0" });
    // Without the addon nothing keeps them out.
    let leaky = Project::new(&[("leak.gd", script(&key))])?;
    let clean = Project::new(&[("clean.gd", script(&mistyped))])?;
    let (pack, _) = leaky.export("Client", "leak.pck")?;
    let (archive, _) = leaky.export("Client", "leak.zip")?;
    let (innocent, _) = clean.export("Client", "clean.pck")?;
    // Scripts are compressed: nobody finds this key by looking at the bytes.
    ensure!(!String::from_utf8_lossy(&fs::read(&pack)?).contains(&key), "the pack is not compressed");

    for leaking in [&pack, &archive] {
        let (code, said) = verify(&[leaking])?;
        ensure!(code == 1 && said.contains("a key of the backend"), "{}: {code} {said}", leaking.display());
        ensure!(!said.contains(&key), "the key itself is shown");
    }
    let (code, said) = verify(&[&innocent])?;
    ensure!(code == 0 && said.contains("1 files, 0 secrets, 0 unreadable"), "{code} {said}");

    let folder = tempfile::tempdir()?;
    let private = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", "A".repeat(64));
    fs::write(folder.path().join("library.so"), "\0-----BEGIN PRIVATE KEY-----\0words\0")?;
    let (code, said) = verify(&[folder.path()])?;
    ensure!(code == 0, "{code} {said}");
    fs::write(folder.path().join("certificate.pem"), private)?;
    let (code, said) = verify(&[folder.path()])?;
    ensure!(code == 1 && said.contains("a private key"), "{code} {said}");

    let (code, said) = verify(&[Path::new("/no/such/file")])?;
    ensure!(code == 2, "{code} {said}");
    Ok(())
}

/// Names of the files in a zip archive.
fn entries(archive: &Path) -> Result<Vec<String>> {
    let code = "import sys, zipfile\nprint('\\n'.join(zipfile.ZipFile(sys.argv[1]).namelist()))";
    let output = Command::new(programs::python()).args(["-c", code]).arg(archive).output()?;
    ensure!(output.status.success(), "{}", text(&output));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}
