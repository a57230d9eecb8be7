//! The README's server and client, as pasted into a new project.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use test_harness::backend::{Backend, free_port};
use test_harness::godot::Launch;
use test_harness::programs;

const SERVER_NODES: &str = r#"
[node name="BackendServerRegistration" type="BackendServerRegistration" parent="."]
server_name = "Pasted"
port = 7777

[node name="BackendPeerAuth" type="BackendPeerAuth" parent="." node_paths=PackedStringArray("registration")]
registration = NodePath("../BackendServerRegistration")

[node name="BackendPlayerStore" type="BackendPlayerStore" parent="." node_paths=PackedStringArray("registration")]
registration = NodePath("../BackendServerRegistration")

[node name="BackendShutdown" type="BackendShutdown" parent="."]
"#;

const CLIENT_NODES: &str = r#"
[node name="BackendSession" type="BackendSession" parent="."]

[node name="BackendRooms" type="BackendRooms" parent="." node_paths=PackedStringArray("session")]
session = NodePath("../BackendSession")

[node name="BackendPeerAuth" type="BackendPeerAuth" parent="."]
"#;

/// A project of one scene: `script` on its root, `nodes` below it.
fn project(folder: &Path, script: &str, nodes: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    symlink(programs::workspace().join("addons"), folder.join("addons"))?;
    fs::write(
        folder.join("project.godot"),
        "config_version=5\n\n[application]\n\nrun/main_scene=\"res://main.tscn\"\nrun/max_fps=60\n",
    )?;
    fs::write(folder.join("main.gd"), script)?;
    let scene = format!(
        "[gd_scene load_steps=2 format=3]\n\n[ext_resource type=\"Script\" path=\"res://main.gd\" id=\"1\"]\n\n\
         [node name=\"Main\" type=\"Node\"]\nscript = ExtResource(\"1\")\n{nodes}"
    );
    fs::write(folder.join("main.tscn"), scene)?;
    Ok(())
}

#[test]
fn the_readme_works_as_pasted() -> Result<()> {
    let readme = fs::read_to_string(programs::workspace().join("README.md"))?;
    let mut blocks =
        readme.split("```gdscript\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let server_script = blocks.next().context("a server")?;
    let client_script = blocks.next().context("a client")?;
    ensure!(server_script.contains("create_server(7777"), "the README's server: {server_script}");

    // The port may be taken on this machine; nothing else is changed.
    let port = free_port()?.to_string();
    let folder = tempfile::tempdir()?;
    let (server_folder, client_folder) = (folder.path().join("server"), folder.path().join("client"));
    project(&server_folder, &server_script.replace("7777", &port), &SERVER_NODES.replace("7777", &port))?;
    project(&client_folder, client_script, CLIENT_NODES)?;

    let backend = Backend::start()?;
    let mut server = Launch::headless("server", &server_folder.to_string_lossy())
        .env("BACKEND_URL", backend.url())
        .env("BACKEND_SERVER_KEY_FILE", backend.server_key_file())
        .start()?;
    backend.api()?.wait_for_room("Pasted", "the server to be listed", |_| true)?;
    let mut client = Launch::headless("client", &client_folder.to_string_lossy())
        .env("BACKEND_URL", backend.url())
        .start()?;
    client.log().wait_until(0, "the client to be in", |line| line.trim() == "in")?;
    backend.wait_for_player("Ada", "one visit", |player| player.progress("visits") == 1)?;
    server.signal(Signal::TERM)?;
    server.finish(0)?;
    client.kill()
}

/// Every piece of `text` that matches: what stands between `begin` and the next character that is none of a name.
fn names(text: &str, begin: &str) -> BTreeSet<String> {
    let is_part = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '-' | '/');
    let found = text.match_indices(begin).map(|(at, _)| {
        let rest = &text[at..];
        let end =
            begin.len() + rest[begin.len()..].find(|one| !is_part(one)).unwrap_or(rest.len() - begin.len());
        rest[..end].to_owned()
    });
    found.collect()
}

/// The sources of the extension and of its settings, without tests.
fn sources() -> Result<String> {
    let mut text = String::new();
    let mut folders = vec![
        programs::workspace().join("rust/extension/src"),
        programs::workspace().join("rust/settings/src"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("tests.rs") {
                // What tests make up is nobody's setting.
                text += fs::read_to_string(path)?.split("#[cfg(test)]").next().unwrap_or_default();
            }
        }
    }
    Ok(text)
}

#[test]
fn the_tables_name_every_class_setting_variable_and_argument() -> Result<()> {
    let read = |path: &str| fs::read_to_string(programs::workspace().join(path));
    let (readme, addon, guide) =
        (read("README.md")?, read("addons/backend_client/README.md")?, read("docs/src/configuration.md")?);
    let sources = sources()?;

    let (mut classes, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for declared in sources.split("#[class(tool, init, base = ").skip(1) {
        ensure!(declared.starts_with("Node)]") || declared.starts_with("Resource)]"), "{declared:.80}");
        let class = names(&declared[..declared.len().min(400)], "pub struct ").into_iter().next();
        if declared.starts_with("Node)]") {
            nodes.extend(class.clone());
        }
        classes.extend(class);
    }
    ensure!(classes.len() >= 10 && nodes.len() >= 9, "{classes:?}");
    for declared in &classes {
        let class = declared.trim_start_matches("pub struct ");
        ensure!(addon.contains(&format!("`{class}`")), "the addon's README does not name {class}");
        ensure!(
            !nodes.contains(declared) || readme.contains(&format!("| `{class}` |")),
            "README does not name {class}"
        );
    }

    let settings = names(&sources, "\"backend_client/");
    let settings = settings.iter().map(|setting| setting.trim_start_matches('"'));
    let settings: BTreeSet<_> = settings.filter(|name| name.matches('/').count() == 2).collect();
    ensure!(settings.len() >= 14, "{settings:?}");
    for setting in settings {
        for (page, text) in [("README", &readme), ("the addon's README", &addon), ("the guide", &guide)] {
            ensure!(text.contains(&format!("| `{setting}`")), "{page} does not name {setting}");
        }
    }

    for (begin, least) in [("\"BACKEND_", 12), ("\"--backend-", 5)] {
        let found = names(&sources, begin);
        ensure!(found.len() >= least, "{found:?}");
        for name in found.iter().map(|name| name.trim_start_matches('"')) {
            for (page, text) in [("README", &readme), ("the addon's README", &addon), ("the guide", &guide)] {
                ensure!(text.contains(&format!("`{name}")), "{page} does not name {name}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_steps_build_what_is_loaded_and_the_image_holds_it() -> Result<()> {
    let read = |path: &str| fs::read_to_string(programs::workspace().join(path));
    let extension = read("addons/backend_client/backend_client.gdextension")?;
    let library = |feature: &str| -> Result<String> {
        let begin = format!("linux.{feature}.x86_64 = \"");
        let rest = extension.split(&begin).nth(1).context("no library")?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    };
    // The editor has the feature "debug".
    let (debug, release) = (library("debug")?, library("release")?);
    ensure!(debug.starts_with("bin/debug/") && release.starts_with("bin/release/"), "{debug} {release}");
    for page in ["README.md", "addons/backend_client/README.md"] {
        let text = read(page)?;
        for word in ["`cargo xtask build`", "`cargo xtask build --release`", "bin/debug/", "bin/release/"] {
            ensure!(text.contains(word), "{page} does not say {word}");
        }
    }
    let library = release.rsplit('/').next().unwrap_or_default();
    let guide = read("docs/src/shutdown.md")?;
    let copied = guide.lines().find(|line| line.starts_with("COPY ")).context("no COPY")?;
    ensure!(copied.contains(library), "the image lacks {library}: {copied}");
    Ok(())
}
