//! The README's server and client, as pasted into a new project.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use end_to_end::backend::{Backend, free_port};
use end_to_end::godot::Launch;
use end_to_end::programs;
use rustix::process::Signal;

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
    fs::create_dir_all(folder.join(".godot"))?;
    symlink(programs::workspace().join("addons"), folder.join("addons"))?;
    // Godot 4.6 aborts at the end of the very run in which it discovers an extension.
    let extension = "res://addons/backend_client/backend_client.gdextension\n";
    fs::write(folder.join(".godot/extension_list.cfg"), extension)?;
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
