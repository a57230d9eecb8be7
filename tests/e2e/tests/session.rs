//! Logging in when something is in the way: wrong credentials, no backend, a player who changes their mind.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::demo::{self, wait_for_event};
use test_harness::fault_proxy::{Fault, FaultProxy};
use test_harness::fixture::{self, Fixture};

fn log_in(client: &mut Fixture, name: &str) -> Result<Value> {
    client.ask(&json!({ "do": "log_in", "name": name }))
}

fn quit(mut client: Fixture) -> Result<()> {
    client.ask(&json!({ "do": "quit" }))?;
    client.godot().finish(0)
}

#[test]
fn wrong_credentials_are_refused_without_telling_which() -> Result<()> {
    let backend = Backend::start()?;
    let ada = backend.api()?.register_account("ada@example.org", "lily pads 1843", "Ada")?;
    let mut client = fixture::client("client", &backend.url())?.start()?;
    let mut try_with = |email: &str, password: &str| {
        client.ask(&json!({ "do": "log_in_with_password", "email": email, "password": password }))
    };

    let wrong_password = try_with("ada@example.org", "lily pads 1844")?;
    ensure!(wrong_password["failed"] == "invalid_credentials", "{wrong_password}");
    ensure!(wrong_password["http_status"] == 401.0, "{wrong_password}");
    let wrong_address = try_with("adam@example.org", "lily pads 1843")?;
    ensure!(wrong_address["failed"] == "invalid_credentials", "{wrong_address}");
    ensure!(wrong_address["message"] == wrong_password["message"], "{wrong_address} {wrong_password}");
    let too_short = try_with("ada@example.org", "lily")?;
    ensure!(too_short["failed"] == "invalid_field", "{too_short}");
    let right = try_with("ADA@example.org", "lily pads 1843")?;
    ensure!(right["player_id"] == ada.id(), "{right}");
    quit(client)?;

    // The demo says the same, and its bot ends with a failure.
    let account = "--account=password:ada@example.org:wrong-password";
    let mut bot = demo::bot("Ada", "Nowhere", &backend.url()).arg(account).start()?;
    ensure!(
        wait_for_event(bot.log(), "failed")?.text("code")? == "invalid_credentials",
        "{}",
        bot.log().tail()
    );
    ensure!(bot.wait()? != 0, "{}", bot.log().tail());
    bot.log().check_clean(&[])
}

#[test]
fn a_backend_that_is_down_at_login_is_an_error_first_and_no_obstacle_later() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let mut client = fixture::client("client", &proxy.url())?.start()?;

    proxy.set(Fault::Refuse);
    let refused = log_in(&mut client, "Early")?;
    ensure!(refused["failed"] == "network" && refused["retryable"] == true, "{refused}");
    ensure!(refused["http_status"] == 0.0, "{refused}");
    proxy.set(Fault::None);
    let accepted = log_in(&mut client, "Early")?;
    ensure!(accepted["player_id"].is_string(), "{accepted}");

    // It comes back while the client still tries: the player notices nothing.
    client.ask(&json!({ "do": "new_session" }))?;
    proxy.set(Fault::Reset);
    let before = proxy.requests("/v1/auth/anonymous");
    client.send(&json!({ "do": "log_in", "name": "Waiting" }))?;
    proxy.wait_for_requests("/v1/auth/anonymous", before + 1)?;
    proxy.set(Fault::None);
    let retried = client.answer()?;
    ensure!(retried["player_id"].is_string(), "{retried}");
    quit(client)?;

    // A login whose reply was lost is repeated, and makes one account all the same.
    let mut client = fixture::client("client", &proxy.url())?.start()?;
    proxy.set(Fault::DropReply { path: "/v1/auth/anonymous".to_owned() });
    client.send(&json!({ "do": "log_in", "name": "Lucky" }))?;
    proxy.wait_for_dropped_replies(1)?;
    proxy.set(Fault::None);
    let repeated = client.answer()?;
    ensure!(repeated["player_id"].is_string(), "{repeated}");
    let accounts = backend.players()?.into_iter().filter(|player| player.display_name == "Lucky").count();
    ensure!(accounts == 1, "{accounts} accounts were made by one login");
    quit(client)
}

#[test]
fn the_demo_says_that_the_backend_is_down() -> Result<()> {
    let mut backend = Backend::start()?;
    backend.stop()?;
    let mut bot = demo::bot("Ada", "Nowhere", &backend.url()).start()?;
    ensure!(wait_for_event(bot.log(), "failed")?.text("code")? == "network", "{}", bot.log().tail());
    ensure!(bot.wait()? != 0, "{}", bot.log().tail());
    bot.log().check_clean(&[])
}

#[test]
fn a_call_given_up_completes_and_leaves_nothing_behind() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let mut client = fixture::client("client", &proxy.url())?.start()?;

    // Nobody answers, so only the cancellation can complete these.
    proxy.set(Fault::Blackhole);
    for after_frames in [0, 1, 10] {
        let cancelled = client.ask(&json!({ "do": "cancel_log_in", "after_frames": after_frames }))?;
        ensure!(cancelled["failed"] == "cancelled", "{cancelled}");
        let state = client.ask(&json!({ "do": "is_logged_in" }))?;
        ensure!(state["logged_in"] == false, "{state}");
    }
    for after_frames in [0, 1, 10] {
        let freed =
            client.ask(&json!({ "do": "free_session_during_log_in", "after_frames": after_frames }))?;
        ensure!(freed["failed"] == "cancelled", "{freed}");
        client.ask(&json!({ "do": "new_session" }))?;
    }

    proxy.set(Fault::None);
    let accepted = log_in(&mut client, "Decided")?;
    ensure!(accepted["player_id"].is_string(), "{accepted}");
    quit(client)?;

    // The game ends while calls are under way: no leak, no error, no waiting for the network.
    let mut hasty = fixture::client("hasty", &proxy.url())?.start()?;
    proxy.set(Fault::Blackhole);
    hasty.send(&json!({ "do": "quit_during_log_in", "count": 10 }))?;
    hasty.godot().finish(0)
}

#[test]
fn two_windows_of_one_game_share_the_account() -> Result<()> {
    let backend = Backend::start()?;
    let home = tempfile::tempdir()?;
    let window = |name: &str| {
        fixture::client(name, &backend.url())?.with_home(home.path()).arg("--backend-profile=shared").start()
    };
    let mut first = window("first")?;
    let player = log_in(&mut first, "Ada")?["player_id"].clone();
    ensure!(player.is_string(), "{player}");
    let mut second = window("second")?;
    let restored = second.ask(&json!({ "do": "restore" }))?;
    ensure!(restored["player_id"] == player, "{restored}");

    // Both renew as fast as they can. A token that both used would end the session of both.
    for client in [&mut first, &mut second] {
        client.send(&json!({ "do": "refresh", "count": 40 }))?;
    }
    for client in [&mut first, &mut second] {
        let refreshed = client.answer()?;
        ensure!(refreshed["failed_with"] == json!([]) && refreshed["player_id"] == player, "{refreshed}");
    }

    // One is killed in the midst of it; the other goes on, and so does the next start.
    first.send(&json!({ "do": "refresh", "count": 40 }))?;
    first.godot().kill()?;
    let alone = second.ask(&json!({ "do": "refresh", "count": 5 }))?;
    ensure!(alone["failed_with"] == json!([]), "{alone}");
    let mut third = window("third")?;
    let restored = third.ask(&json!({ "do": "restore" }))?;
    ensure!(restored["player_id"] == player, "{restored}");
    quit(second)?;
    quit(third)
}

#[test]
fn a_second_instance_from_the_editor_is_another_player() -> Result<()> {
    let backend = Backend::start()?;
    let home = tempfile::tempdir()?;
    let window = |name: &str| fixture::client(name, &backend.url())?.with_home(home.path()).start();
    let mut first = window("first")?;
    let ada = log_in(&mut first, "Ada")?["player_id"].clone();
    let mut second = window("second")?;
    // It is told nothing of Ada's session, and says which profile it uses.
    let restored = second.ask(&json!({ "do": "restore" }))?;
    ensure!(restored["failed"] == "not_logged_in", "{restored}");
    second.log().wait_for("uses \"default-2\"")?;
    let bo = log_in(&mut second, "Bo")?["player_id"].clone();
    ensure!(bo.is_string() && bo != ada, "{bo}");
    quit(first)?;
    quit(second)?;
    // The first profile is free again, with its account.
    let mut next = window("next")?;
    ensure!(next.ask(&json!({ "do": "restore" }))?["player_id"] == ada, "{}", next.log().tail());
    quit(next)?;
    // The environment names a profile as well; the argument comes before it.
    let named = fixture::client("named", &backend.url())?.with_home(home.path());
    let mut named = named.env("BACKEND_PROFILE", "default-2").start()?;
    ensure!(named.ask(&json!({ "do": "restore" }))?["player_id"] == bo, "{}", named.log().tail());
    quit(named)?;
    let both = fixture::client("both", &backend.url())?.with_home(home.path());
    let mut both = both.env("BACKEND_PROFILE", "default-2").arg("--backend-profile=default").start()?;
    ensure!(both.ask(&json!({ "do": "restore" }))?["player_id"] == ada, "{}", both.log().tail());
    quit(both)
}

#[cfg(unix)]
#[test]
fn what_a_client_keeps_is_for_its_user_only() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let backend = Backend::start()?;
    let home = tempfile::tempdir()?;
    let mut client = fixture::client("client", &backend.url())?.with_home(home.path()).start()?;
    log_in(&mut client, "Ada")?;
    quit(client)?;
    let mut folders = vec![home.path().to_owned()];
    let mut kept = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type()))?;
            if kind?.is_dir() {
                folders.push(path.clone());
            }
            // What the engine keeps for itself is its own affair.
            if path.components().any(|part| part.as_os_str() == "backend_client") {
                let mode = std::fs::metadata(&path)?.permissions().mode();
                ensure!(mode.trailing_zeros() >= 6, "{} has mode {mode:o}", path.display());
                kept += usize::from(path.is_file());
            }
        }
    }
    ensure!(kept >= 2, "a session and its key, but {kept} files");
    Ok(())
}
