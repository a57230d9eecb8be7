//! The panel of the editor plugin, in a real editor without a window: a backend, servers and clients run from it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, test_kill_process};
use test_harness::backend::free_port;
use test_harness::godot::{Godot, Launch};
use test_harness::process::send;
use test_harness::{programs, until};

const PLUGINS: &str = "\n[editor_plugins]\n\nenabled=PackedStringArray(\"res://addons/backend_client/plugin.cfg\", \
                       \"res://addons/driver/plugin.cfg\")\n";

/// A main scene that the assistant has not written.
const OWN_SCENE: &str = "[gd_scene format=3]\n\n[node name=\"Mine\" type=\"Node\"]\n";

#[test]
fn the_panel_runs_backend_servers_and_clients_and_ends_them() -> Result<()> {
    let folder = odd_folder()?;
    let project = folder.path();
    copy_demo(project)?;
    // Far from the ports of other tests.
    fs::create_dir_all(project.join(".godot/backend_client"))?;
    fs::write(
        project.join(".godot/backend_client/panel.cfg"),
        format!(
            "[run]\n\nserver_arguments=\"--server --port={{port}} --name={{name}} --race-length=3\"\n\
             client_arguments=\"--headless -- --bot --name={{name}} --room=server-1\"\nbackend_port={}\nfirst_port={}\n",
            free_port()?,
            free_port()?
        ),
    )?;
    let mut editor = Launch::headless("editor", &project.to_string_lossy())
        .engine_arg("--editor")
        .env("BACKEND_SERVER_PROGRAM", "/nowhere/backend-server")
        .env("PANEL_BACKEND_PROGRAM", programs::backend_server()?)
        // Not for a game of the local backend.
        .env("BACKEND_SERVER_KEY", "of another backend")
        .start()?;

    let message = shown(&editor, "message")?;
    ensure!(message.contains("BACKEND_SERVER_PROGRAM is /nowhere/backend-server"), "{message}");
    let url = shown(&editor, "url")?;
    ensure!(url.contains("http://127.0.0.1:"), "{url}");
    let key = shown(&editor, "admin")?;
    ensure!(key == "PANEL admin 1 gak_", "{key}");
    let mut processes = Vec::new();
    for name in ["backend", "server-1", "server-2"] {
        processes.push(process(&editor, "process", &format!("{name} running"))?);
    }
    for name in ["client-1", "client-2"] {
        ensure_exit_code(&editor, name, "0")?;
    }
    ensure_exit_code(&editor, "server-1", "0")?;
    let filtered = shown(&editor, "filtered")?;
    ensure!(filtered.ends_with("server draining reason=SIGTERM") && !filtered.contains('|'), "{filtered}");
    process(&editor, "process", "client-1 killed")?;
    processes.push(process(&editor, "left", "client-2 running")?);

    // The key is where the backend has put it, readable by its owner, and nowhere else in the project.
    let key_file = project.join(".godot/backend_client/local/server.key");
    ensure!(fs::metadata(&key_file)?.permissions().mode() & 0o777 == 0o600, "the key is readable by others");
    let key = fs::read_to_string(&key_file)?;

    editor.finish(0)?;
    for id in processes {
        until_ended(id)?;
    }
    ensure!(!editor.log().contains("PANEL disabled") && !editor.log().contains("PANEL missing"));
    let holders = files_with(project, key.trim().as_bytes())?;
    ensure!(holders == [key_file], "the key is in {holders:?}");
    Ok(())
}

#[test]
fn a_game_survives_every_fault_and_the_panel_shows_state_and_data() -> Result<()> {
    let folder = odd_folder()?;
    let project = folder.path();
    copy(&programs::workspace().canonicalize()?.join("tests/fixtures/saving_game"), project)?;
    add_plugins(project)?;
    let settings = project.join("project.godot");
    // What F5 runs.
    let run = "\n[editor]\n\nrun/main_run_args=\"--headless -- --server\"\n";
    fs::write(&settings, fs::read_to_string(&settings)? + PLUGINS + run)?;
    fs::create_dir_all(project.join(".godot/backend_client"))?;
    fs::write(
        project.join(".godot/backend_client/panel.cfg"),
        format!(
            "[run]\n\nclient_arguments=\"--headless --\"\nbackend_arguments=\"--heartbeat-seconds 1\"\n\
             backend_port={}\nproxy_port={}\nfirst_port={}\n",
            free_port()?,
            free_port()?,
            free_port()?
        ),
    )?;
    let mut editor = Launch::headless("editor", &project.to_string_lossy())
        .engine_arg("--editor")
        .env("PANEL_STEPS", "faults")
        .env("PANEL_BACKEND_PROGRAM", programs::backend_server()?)
        .start()?;
    shown(&editor, "state healthy")?;
    for fault in ["internal", "rate_limited", "offline", "lost replies", "latency", "expired token"] {
        shown(&editor, &format!("recovered {fault}"))?;
    }
    ensure!(shown(&editor, "player ")? == "PANEL player Ada progress");
    ensure!(shown(&editor, "room ")? == "PANEL room Pond 1 of 4");
    shown(&editor, "state in the editor's debugger")?;
    editor.finish(0)?;
    ensure!(!editor.log().contains("PANEL disabled") && !editor.log().contains("PANEL missing"));
    Ok(())
}

/// A project that is not easy to name.
fn odd_folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("jörg's (1) ").tempdir()?)
}

/// The files below a folder, without those of the addon, that contain these bytes.
fn files_with(folder: &Path, wanted: &[u8]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), wanted)?);
        } else if kind.is_file() {
            let content = fs::read(entry.path())?;
            if content.windows(wanted.len()).any(|window| window == wanted) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[test]
fn a_second_editor_leaves_the_first_ones_processes_to_it() -> Result<()> {
    let folder = odd_folder()?;
    let project = folder.path();
    copy_demo(project)?;
    fs::create_dir_all(project.join(".godot/backend_client"))?;
    let panel = project.join(".godot/backend_client/panel.cfg");
    fs::write(&panel, format!("[run]\n\nbackend_port={}\nfirst_port={}\n", free_port()?, free_port()?))?;
    let steps = |steps: &str| {
        Launch::headless(steps, &project.to_string_lossy())
            .engine_arg("--editor")
            .env("PANEL_STEPS", steps)
            .env("PANEL_BACKEND_PROGRAM", programs::backend_server()?)
            .start()
    };
    let mut first = steps("abandon")?;
    shown(&first, "abandoned")?;
    let backend = process(&first, "process", "backend running")?;
    let server = process(&first, "process", "server-1 running")?;
    let mut orphans = Orphans(vec![backend, server]);

    let mut second = steps("second")?;
    let message = shown(&second, "message")?;
    ensure!(
        message.contains("Another editor has this project open and runs its backend at 127.0.0.1:"),
        "{message}"
    );
    second.finish(0)?;
    for id in [backend, server] {
        ensure!(test_kill_process(pid(id)?).is_ok(), "process {id} has ended with the second editor");
    }
    // What the second has done does not keep the next from finding what the first leaves.
    first.kill()?;
    let mut third = steps("find")?;
    let message = shown(&third, "message")?;
    ensure!(message.contains("2 processes were sent SIGTERM"), "{message}");
    third.finish(0)?;
    while let Some(id) = orphans.0.last() {
        until_ended(*id)?;
        orphans.0.pop();
    }
    Ok(())
}

#[test]
fn the_orphans_of_a_crashed_editor_are_ended_by_the_next() -> Result<()> {
    let folder = odd_folder()?;
    let project = folder.path();
    copy_demo(project)?;
    fs::create_dir_all(project.join(".godot/backend_client"))?;
    fs::write(
        project.join(".godot/backend_client/panel.cfg"),
        format!("[run]\n\nbackend_port={}\nfirst_port={}\n", free_port()?, free_port()?),
    )?;
    let steps = |steps: &str| {
        Launch::headless(steps, &project.to_string_lossy())
            .engine_arg("--editor")
            .env("PANEL_STEPS", steps)
            .env("PANEL_BACKEND_PROGRAM", programs::backend_server()?)
            .start()
    };
    let mut editor = steps("abandon")?;
    shown(&editor, "abandoned")?;
    let backend = process(&editor, "process", "backend running")?;
    let server = process(&editor, "process", "server-1 running")?;
    let mut orphans = Orphans(vec![backend, server]);
    editor.kill()?;
    for id in [backend, server] {
        ensure!(test_kill_process(pid(id)?).is_ok(), "process {id} has ended with the editor");
    }

    let mut editor = steps("find")?;
    let message = shown(&editor, "message")?;
    ensure!(message.contains("2 processes were sent SIGTERM"), "{message}");
    editor.finish(0)?;
    while let Some(id) = orphans.0.last() {
        until_ended(*id)?;
        orphans.0.pop();
    }
    // Once.
    let mut editor = steps("find")?;
    let message = shown(&editor, "message")?;
    ensure!(message.trim() == "PANEL message", "{message}");
    editor.finish(0)
}

/// Processes that a failing test must not leave behind.
struct Orphans(Vec<u32>);

impl Drop for Orphans {
    fn drop(&mut self) {
        for id in &self.0 {
            let _already_gone = send(*id, Signal::KILL);
        }
    }
}

fn pid(id: u32) -> Result<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw).context("no process id")
}

fn until_ended(id: u32) -> Result<()> {
    let pid = pid(id)?;
    until(&format!("the end of process {id}"), || Ok(test_kill_process(pid).is_err().then_some(())))
}

#[test]
fn the_setup_assistant_writes_a_game_that_runs_and_takes_back_what_was_not_changed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path();
    add_plugins(project)?;
    // What is the developer's own: a setting, and a file beside those of the assistant.
    let own_url = "network/base_url=\"https://backend.example.org\"";
    let settings = format!(
        "config_version=5\n\n[application]\n\nconfig/name=\"The \\\"Pond\\\"\"\n\n[backend_client]\n\n{own_url}\n{PLUGINS}"
    );
    fs::write(project.join("project.godot"), &settings)?;
    fs::create_dir_all(project.join("client"))?;
    fs::write(project.join("client/notes.txt"), "mine")?;
    fs::create_dir_all(project.join(".godot/backend_client"))?;
    fs::write(
        project.join(".godot/backend_client/panel.cfg"),
        format!(
            "[run]\n\nclient_arguments=\"--headless --\"\nbackend_port={}\nfirst_port={}\n",
            free_port()?,
            free_port()?
        ),
    )?;
    let steps = |steps: &str| {
        Launch::headless(steps, &project.to_string_lossy())
            .engine_arg("--editor")
            .env("PANEL_STEPS", steps)
            .env("PANEL_OWN_SCENE", OWN_SCENE)
            .env("PANEL_BACKEND_PROGRAM", programs::backend_server()?)
            .start()
    };

    let mut editor = steps("set_up")?;
    ensure_exit_code(&editor, "server-1", "0")?;
    editor.finish(0)?;
    let written = |editor: &Godot, when: &str, state: &str| {
        let lines = editor.log().lines();
        let begin = format!("PANEL {when} ");
        let found = lines.iter().filter_map(|line| line.strip_prefix(&begin)?.strip_suffix(state));
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(written(&editor, "written", ": written").len() == 9, "{:#?}", editor.log().lines());
    let kept = written(&editor, "written", ": exists already, stays as it is");
    ensure!(kept == ["backend_client/network/base_url"], "{kept:?}");
    ensure!(fs::read_to_string(project.join("project.godot"))?.contains(own_url), "the setting was changed");
    for (preset, has_server) in [("Client", false), ("Server", true)] {
        let names = exported(project, preset)?;
        ensure!(names.contains("main.gd"), "{preset}: {names}");
        ensure!(names.contains("server/server.gd") == has_server, "{preset}: {names}");
    }

    let main = project.join("main.gd");
    let changed = fs::read_to_string(&main)? + "\n# mine\n";
    fs::write(&main, &changed)?;
    let mut editor = steps("remove")?;
    editor.finish(0)?;
    let stays = written(&editor, "before", ": written, and changed since: stays");
    ensure!(stays == ["res://main.gd"], "{stays:?}");
    let own = written(&editor, "again", ": exists already, stays as it is");
    ensure!(own == ["res://main.tscn", "backend_client/network/base_url"], "{own:?}");
    ensure!(fs::read_to_string(&main)? == changed, "main.gd is not as it was");
    ensure!(fs::read_to_string(project.join("main.tscn"))? == OWN_SCENE, "main.tscn is not as it was");
    ensure!(fs::read_to_string(project.join("client/notes.txt"))? == "mine", "the notes are gone");
    for gone in
        ["client/client.gd", "client/client.gd.uid", "client/client.tscn", "server", "export_presets.cfg"]
    {
        ensure!(!project.join(gone).exists(), "{gone} is still there");
    }
    let settings = fs::read_to_string(project.join("project.godot"))?;
    ensure!(settings.contains(own_url) && !settings.contains("main_scene"), "{settings}");
    ensure!(!settings.contains("server_only"), "{settings}");
    Ok(())
}

/// The names in what this preset exports.
fn exported(project: &Path, preset: &str) -> Result<String> {
    let pack = project.join(format!("{preset}.zip"));
    let mut godot = Launch::headless(preset, &project.to_string_lossy())
        .engine_arg("--export-pack")
        .engine_arg(preset)
        .engine_arg(pack.to_string_lossy())
        .start()?;
    godot.finish(0)?;
    let list = "import sys, zipfile\nprint(zipfile.ZipFile(sys.argv[1]).namelist())";
    let output = Command::new(programs::python()).args(["-c", list]).arg(&pack).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(pack)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// The addon, and a plugin that presses the panel's buttons.
fn add_plugins(project: &Path) -> Result<()> {
    let workspace = programs::workspace().canonicalize()?;
    copy(&workspace.join("tests/fixtures/editor"), &project.join("addons/driver"))?;
    Ok(symlink(workspace.join("addons/backend_client"), project.join("addons/backend_client"))?)
}

/// The demo, with the addon's plugin and one that presses the panel's buttons.
fn copy_demo(project: &Path) -> Result<()> {
    let workspace = programs::workspace().canonicalize()?;
    copy(&workspace.join("demo"), project)?;
    add_plugins(project)?;
    let settings = project.join("project.godot");
    let mut text = fs::read_to_string(&settings)?;
    if let Some(begin) = text.find("\n[editor_plugins]") {
        let end = text[begin + 1..].find("\n[").map_or(text.len(), |at| begin + 1 + at);
        text.replace_range(begin..end, "");
    }
    Ok(fs::write(settings, text + PLUGINS)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() && name != ".godot" {
            copy(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}

/// The rest of the first line about `what`.
fn shown(editor: &Godot, what: &str) -> Result<String> {
    let line = editor.log().wait_until(0, &format!("{what} in the panel"), |line| {
        line.starts_with(&format!("PANEL {what}")) || line.starts_with("PANEL timeout")
    })?;
    ensure!(!line.starts_with("PANEL timeout"), "{}", editor.log().lines().join("\n"));
    Ok(line)
}

/// The id of a process with this name and state.
fn process(editor: &Godot, what: &str, name_and_state: &str) -> Result<u32> {
    let line = shown(editor, &format!("{what} {name_and_state} "))?;
    line.split_whitespace().nth(4).context("no process id")?.parse().context("no process id")
}

fn ensure_exit_code(editor: &Godot, name: &str, code: &str) -> Result<()> {
    let line = shown(editor, &format!("process {name} ended "))?;
    ensure!(line.split_whitespace().last() == Some(code), "{line}");
    Ok(())
}
