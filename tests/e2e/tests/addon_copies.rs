//! A project with two copies of the addon.

use std::fs;

use anyhow::{Result, ensure};
use test_harness::godot::Launch;
use test_harness::programs;

#[test]
fn a_second_copy_of_the_addon_does_not_start_and_says_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path();
    fs::create_dir_all(project.join(".godot"))?;
    let addon = programs::workspace().join("addons/backend_client");
    for copy in ["backend_client", "copied"] {
        let copied = project.join("addons").join(copy);
        fs::create_dir_all(copied.join("bin"))?;
        fs::copy(addon.join("backend_client.gdextension"), copied.join("backend_client.gdextension"))?;
        for build in ["debug", "release"] {
            let library = addon.join("bin").join(build).join("libbackend_extension.so");
            if library.exists() {
                // A file of its own: the same one would be loaded once.
                fs::create_dir_all(copied.join("bin").join(build))?;
                fs::copy(library, copied.join("bin").join(build).join("libbackend_extension.so"))?;
            }
        }
    }
    fs::write(
        project.join(".godot/extension_list.cfg"),
        "res://addons/backend_client/backend_client.gdextension\nres://addons/copied/backend_client.gdextension\n",
    )?;
    // Taken for imported, for the engine to load both at its start.
    fs::write(project.join(".godot/global_script_class_cache.cfg"), "list=[]\n")?;
    fs::write(
        project.join("project.godot"),
        "config_version=5\n\n[application]\n\nrun/main_scene=\"res://main.tscn\"\n",
    )?;
    fs::write(
        project.join("main.gd"),
        "extends Node\n\nfunc _ready() -> void:\n\tprint(\"profile \", BackendSession.new().profile)\n\tget_tree().quit()\n",
    )?;
    fs::write(
        project.join("main.tscn"),
        "[gd_scene load_steps=2 format=3]\n\n[ext_resource type=\"Script\" path=\"res://main.gd\" id=\"1\"]\n\n\
         [node name=\"Main\" type=\"Node\"]\nscript = ExtResource(\"1\")\n",
    )?;
    let mut game = Launch::headless("copies", &project.to_string_lossy()).start()?;
    game.log().wait_for("profile default")?;
    game.wait()?;
    let errors: Vec<String> =
        game.log().lines().into_iter().filter(|line| line.starts_with("ERROR:")).collect();
    // Ours; the engine adds that the library did not start, and which one.
    ensure!(errors.len() <= 3 && errors[0].contains("two copies of the addon"), "{errors:#?}");
    Ok(())
}
