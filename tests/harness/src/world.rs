//! The fixture game as a server that keeps a world: three chunks with the same text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::backend::{Backend, as_whole};
use crate::fixture::{self, Fixture, FixtureLaunch};

/// Names of the chunks.
pub const NAMES: [&str; 3] = ["terrain/0,0", "terrain/0,1", "buildings"];

/// A server about to be started, whose local copies are in `folder`; it reaches `backend` at `url`.
pub fn launch(name: &str, url: &str, backend: &Backend, folder: &Path) -> Result<FixtureLaunch> {
    let launch = fixture::world(name, url, &backend.server_key_file())?;
    Ok(launch.env("BACKEND_WORLDS_FOLDER", &folder.to_string_lossy()))
}

/// A registered server whose local copies are in `folder`.
pub fn start(name: &str, backend: &Backend, folder: &Path) -> Result<Fixture> {
    start_behind(name, &backend.url(), backend, folder)
}

/// A registered server that reaches `backend` at `url`.
pub fn start_behind(name: &str, url: &str, backend: &Backend, folder: &Path) -> Result<Fixture> {
    let mut server = launch(name, url, backend, folder)?.start()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    Ok(server)
}

/// Takes the world and gives the names of its chunks.
pub fn open(server: &mut Fixture) -> Result<Vec<String>> {
    let opened = server.ask(&json!({ "do": "open", "world_id": "overworld" }))?;
    let chunks = opened.get("chunks").with_context(|| opened.to_string())?;
    Ok(serde_json::from_value(chunks.clone())?)
}

/// Saves `text` in three chunks; when it returns, they are acknowledged as durable on local disk.
pub fn save(server: &mut Fixture, text: &str) -> Result<()> {
    let saved = server.ask(&json!({ "do": "save", "names": NAMES, "text": text }))?;
    ensure!(saved.get("dirty").is_some(), "{saved}");
    Ok(())
}

/// What the server reads of a chunk, or why it does not.
pub fn load(server: &mut Fixture, name: &str) -> Result<Value> {
    server.ask(&json!({ "do": "load_chunk", "name": name }))
}

/// All three chunks hold `text`, written by the world's `version`.
pub fn holds(server: &mut Fixture, text: &str, version: i64) -> Result<()> {
    for name in NAMES {
        let chunk = load(server, name)?;
        ensure!(chunk["text"] == text, "{name} instead of {text}: {chunk}");
        ensure!(as_whole(&chunk["version"]) == version, "{name} was committed another time: {chunk}");
    }
    Ok(())
}

/// Sends everything.
pub fn flush(server: &mut Fixture) -> Result<()> {
    let flushed = server.ask(&json!({ "do": "flush" }))?;
    ensure!(flushed["unsaved"] == 0.0, "{flushed}");
    Ok(())
}

/// Ends the server in good order.
pub fn stop(mut server: Fixture) -> Result<()> {
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

/// All files below `folder`.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
