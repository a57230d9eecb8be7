//! Documents that only the journal has when the process dies: the next process sends them, and they are what they were.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use test_harness::backend::Backend;
use test_harness::godot::{Godot, Launch};
use test_harness::programs;

const SCENE: &str = r#"[gd_scene load_steps=2 format=3]

[ext_resource type="Script" path="res://main.gd" id="1"]

[node name="Main" type="Node"]
script = ExtResource("1")

[node name="BackendServerRegistration" type="BackendServerRegistration" parent="."]
server_name = "Documents"
port = 7777

[node name="BackendPlayerStore" type="BackendPlayerStore" parent="." node_paths=PackedStringArray("registration")]
registration = NodePath("../BackendServerRegistration")
debounce_seconds = 3600.0
max_delay_seconds = 3600.0

[node name="BackendSession" type="BackendSession" parent="."]
"#;

const SCRIPT: &str = r#"extends Node

const RandomDocuments: GDScript = preload("res://random_documents.gd")
const COUNT := 60


func _ready() -> void:
	await $BackendServerRegistration.register().wait()
	var player_id := OS.get_environment("DOCUMENTS_OF")
	var is_new := player_id.is_empty()
	if is_new:
		await $BackendSession.login_anonymous("Ada").wait()
		player_id = $BackendSession.player_id
	var loaded: BackendPlayerDocuments = await $BackendPlayerStore.load_player(player_id).wait()
	if loaded.failed():
		return print("not loaded: ", loaded.error.message)
	if is_new:
		for index in COUNT:
			var document: Dictionary = RandomDocuments.new(1000 + index).next()
			$BackendPlayerStore.save(player_id, "document-%d" % index, document)
		var flushed: BackendFlushResult = await $BackendPlayerStore.flush_local().wait()
		return print("journalled %d of %s" % [flushed.journalled, player_id])
	var same := 0
	for index in COUNT:
		var document: Dictionary = RandomDocuments.new(1000 + index).next()
		var back: Dictionary = loaded.get_document("document-%d" % index)
		if RandomDocuments.is_same_document(document, back):
			same += 1
		else:
			print("%s became %s" % [var_to_str(document), var_to_str(back)])
	print("the same: %d" % same)
"#;

fn project(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    symlink(programs::workspace().join("addons"), folder.join("addons"))?;
    let settings =
        "config_version=5\n\n[application]\n\nrun/main_scene=\"res://main.tscn\"\nrun/max_fps=60\n";
    fs::write(folder.join("project.godot"), settings)?;
    fs::write(folder.join("main.gd"), SCRIPT)?;
    fs::write(folder.join("main.tscn"), SCENE)?;
    fs::copy(programs::workspace().join("godot/random_documents.gd"), folder.join("random_documents.gd"))?;
    Ok(())
}

#[test]
fn documents_survive_a_killed_process_bit_for_bit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (game, journal) = (folder.path().join("game"), folder.path().join("journal"));
    project(&game)?;
    let backend = Backend::start()?;
    let start = |name: &str, player_id: &str| -> Result<Godot> {
        Launch::headless(name, &game.to_string_lossy())
            .env("BACKEND_URL", backend.url())
            .env("BACKEND_SERVER_KEY_FILE", backend.server_key_file())
            .env("BACKEND_JOURNAL_FOLDER", &journal)
            .env("DOCUMENTS_OF", player_id)
            .start()
    };
    let mut first = start("first", "")?;
    let said = first.log().wait_for("journalled ")?;
    let player_id = said.trim().strip_prefix("journalled 60 of ").with_context(|| said.clone())?.to_owned();
    ensure!(
        backend.players()?.iter().all(|player| player.progress("any") == 0),
        "the backend has them already"
    );
    first.kill()?;
    let mut second = start("second", &player_id)?;
    let said = second.log().wait_for("the same: ")?;
    ensure!(said.trim() == "the same: 60", "{said}\n{}", second.log().tail());
    second.kill()
}
