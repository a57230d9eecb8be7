//! A journal that cannot be used: nothing is called safe that is not, the game is told, and the server goes on.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::api::Player;
use test_harness::backend::{Backend, as_whole};
use test_harness::fixture::{self, Fixture, FixtureLaunch};

/// What the addon says in the log when it cannot write.
const SAID: &str = "the journal cannot be used";

fn server(backend: &Backend, folder: &Path) -> Result<FixtureLaunch> {
    let launch = fixture::server("Keeper", &backend.url(), &backend.server_key_file())?;
    Ok(launch.env("BACKEND_JOURNAL_FOLDER", &folder.to_string_lossy()))
}

fn hold(server: &mut Fixture, player: &Player) -> Result<()> {
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    let loaded = server.ask(&json!({ "do": "load_players", "player_ids": [player.id()] }))?;
    ensure!(loaded["documents"].get(player.id()).is_some(), "{loaded}");
    Ok(())
}

/// Saves a document that needs space.
fn save(server: &mut Fixture, coins: i64) -> Result<()> {
    let value = json!({ "coins": coins, "ballast": "x".repeat(64 * 1024) });
    server.ask(&json!({ "do": "save", "key": "purse", "value": value })).map(drop)
}

fn delivered(player: &Player, coins: i64) -> Result<()> {
    let has = |value: &Value| as_whole(value) == coins;
    player.wait_for_document("purse", |document| document.value.get("coins").is_some_and(has)).map(drop)
}

fn is_counted(server: &mut Fixture, dirty: f64, unjournalled: f64) -> Result<()> {
    let counted = server.ask(&json!({ "do": "dirty" }))?;
    ensure!(counted["dirty"] == dirty && counted["unjournalled"] == unjournalled, "{counted}");
    Ok(())
}

fn stop(mut server: Fixture) -> Result<()> {
    server.godot().signal(Signal::TERM)?;
    server.godot().finish_despite(0, &[SAID])
}

/// Takes all the space there is, until the file is removed.
fn fill(path: &Path) -> Result<()> {
    let mut filler = File::create(path)?;
    for size in [64 * 1024, 1] {
        loop {
            match filler.write(&vec![0; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => bail!("the disk is not full, but {error}"),
            }
        }
    }
    Ok(())
}

#[test]
fn a_full_disk_is_told_and_nothing_is_called_safe() -> Result<()> {
    let mut backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let folder = tempfile::tempdir()?;
    let mut server = server(&backend, folder.path())?.with_disk(folder.path(), "size=1m").start()?;
    hold(&mut server, &ada)?;
    // It is in memory, which is worth a word.
    server.log().wait_for("EVENT journal_warning message=unsent saves in")?;
    backend.kill()?;
    save(&mut server, 1)?;
    let safe = format!("EVENT saved_locally player={} key=purse", ada.id());
    server.log().wait_for(&safe)?;

    let filler = server.godot().inside(&folder.path().join("filler"));
    fill(&filler).context(filler.display().to_string())?;
    let since = server.log().len();
    save(&mut server, 2)?;
    server.log().wait_after(since, "EVENT journal_failed code=journal")?;
    let flush = server.ask(&json!({ "do": "flush_local" }))?;
    ensure!(flush["unsaved"] == 1.0 && flush["journalled"] == 0.0, "{flush}");
    is_counted(&mut server, 1.0, 1.0)?;
    let claimed = server.log().lines().split_off(since).into_iter().find(|line| line.contains(&safe));
    ensure!(claimed.is_none(), "acknowledged without having been written: {claimed:?}");

    fs::remove_file(&filler)?;
    server.log().wait_after(since, "EVENT journal_recovered")?;
    server.log().wait_after(since, &safe)?;
    is_counted(&mut server, 1.0, 0.0)?;
    backend.resume()?;
    delivered(&ada, 2)?;
    stop(server)
}

#[test]
fn a_read_only_folder_is_told_and_saves_arrive_all_the_same() -> Result<()> {
    let backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let folder = tempfile::tempdir()?;
    let mut server = server(&backend, folder.path())?.with_disk(folder.path(), "ro").start()?;
    hold(&mut server, &ada)?;
    server.log().wait_for("EVENT journal_failed code=journal")?;
    save(&mut server, 1)?;
    delivered(&ada, 1)?;
    server.log().wait_for(&format!("EVENT saved player={} key=purse version=1", ada.id()))?;
    ensure!(!server.log().contains("EVENT saved_locally"), "{}", server.log().tail());
    // What the folder holds of earlier runs could not be read: unknown is not nothing.
    server.godot().signal(Signal::TERM)?;
    server.godot().finish_despite(75, &[SAID])
}

#[test]
fn a_damaged_journal_is_set_aside_and_told() -> Result<()> {
    let mut backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let folder = tempfile::tempdir()?;
    // What a person finds there later is what was there.
    let damaged = folder.path().join("journal-0.db");
    let remains = b"SQLite format 3\0 and then nothing that makes sense".repeat(500);
    fs::write(&damaged, &remains)?;
    let mut server = server(&backend, folder.path())?.start()?;
    hold(&mut server, &ada)?;
    server.log().wait_for(&format!("EVENT journal_warning message={} is damaged", damaged.display()))?;
    backend.kill()?;
    save(&mut server, 2)?;
    server.log().wait_for(&format!("EVENT saved_locally player={} key=purse", ada.id()))?;
    server.godot().kill()?;
    let aside: Vec<Vec<u8>> = fs::read_dir(folder.path())?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-"))
        .map(|entry| fs::read(entry.path()))
        .collect::<std::io::Result<_>>()?;
    ensure!(aside.contains(&remains), "the damaged journal is not kept as it was");
    backend.resume()?;
    let mut last = self::server(&backend, folder.path())?.start()?;
    hold(&mut last, &ada)?;
    delivered(&ada, 2)?;
    ensure!(!last.log().contains("is damaged"), "told again: {}", last.log().tail());
    stop(last)
}

#[test]
fn a_folder_removed_under_a_server_is_noticed_with_the_next_save() -> Result<()> {
    let mut backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let place = tempfile::tempdir()?;
    let folder = place.path().join("journal");
    let mut running = server(&backend, &folder)?.start()?;
    hold(&mut running, &ada)?;
    backend.kill()?;
    save(&mut running, 1)?;
    let safe = format!("EVENT saved_locally player={} key=purse", ada.id());
    running.log().wait_for(&safe)?;
    fs::remove_dir_all(&folder)?;
    let since = running.log().len();
    save(&mut running, 2)?;
    running.log().wait_after(since, "EVENT journal_failed code=journal")?;
    running.log().wait_after(since, "EVENT journal_recovered")?;
    running.log().wait_after(since, &safe)?;
    running.godot().kill()?;
    backend.resume()?;
    let mut last = server(&backend, &folder)?.start()?;
    hold(&mut last, &ada)?;
    delivered(&ada, 2)?;
    stop(last)
}

#[test]
fn saves_for_one_backend_are_not_sent_to_another() -> Result<()> {
    let mut right = Backend::start()?;
    let other = Backend::start()?;
    let ada = right.api()?.log_in("Ada")?;
    let eve = other.api()?.log_in("Eve")?;
    let folder = tempfile::tempdir()?;
    let mut first = server(&right, folder.path())?.start()?;
    hold(&mut first, &ada)?;
    right.kill()?;
    save(&mut first, 1)?;
    first.log().wait_for(&format!("EVENT saved_locally player={} key=purse", ada.id()))?;
    first.godot().kill()?;
    let mut foreign = server(&other, folder.path())?.start()?;
    hold(&mut foreign, &eve)?;
    let file = folder.path().join("journal-0.db");
    let warning = format!("EVENT journal_warning message={} has 1 saves for another backend", file.display());
    foreign.log().wait_for(&warning)?;
    save(&mut foreign, 5)?;
    delivered(&eve, 5)?;
    stop(foreign)?;
    right.resume()?;
    let mut last = server(&right, folder.path())?.start()?;
    hold(&mut last, &ada)?;
    delivered(&ada, 1)?;
    stop(last)
}

/// A backup of the folder, or the snapshot of a volume: what it holds is sent, but the server that wrote it may be running.
#[test]
fn a_copied_journal_does_not_end_the_server_it_was_copied_from() -> Result<()> {
    let mut backend = Backend::start()?;
    let api = backend.api()?;
    let (ada, bob) = (api.log_in("Ada")?, api.log_in("Bob")?);
    let (folder, copied) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut original = server(&backend, folder.path())?.start()?;
    hold(&mut original, &ada)?;
    backend.kill()?;
    save(&mut original, 1)?;
    original.log().wait_for(&format!("EVENT saved_locally player={} key=purse", ada.id()))?;
    original.godot().signal(Signal::STOP)?;
    for entry in fs::read_dir(folder.path())? {
        let file = entry?;
        fs::copy(file.path(), copied.path().join(file.file_name()))?;
    }
    backend.resume()?;

    let mut other = server(&backend, copied.path())?.start()?;
    hold(&mut other, &bob)?;
    delivered(&ada, 1)?;
    save(&mut other, 5)?;
    delivered(&bob, 5)?;
    ensure!(api.rooms()?.len() == 2, "both are listed: {:?}", api.rooms()?);
    stop(other)?;

    let since = original.log().len();
    original.godot().signal(Signal::CONT)?;
    save(&mut original, 2)?;
    delivered(&ada, 2)?;
    original.log().wait_after(since, &format!("EVENT saved player={} key=purse version=2", ada.id()))?;
    ensure!(!original.log().contains("EVENT lease_lost"), "{}", original.log().tail());
    ensure!(api.rooms()?.len() == 1, "the original is listed: {:?}", api.rooms()?);
    stop(original)
}
