//! Logging in when something is in the way: wrong credentials, no backend, a player who changes their mind.

use anyhow::{Result, ensure};
use end_to_end::backend::Backend;
use end_to_end::demo::{self, story};
use end_to_end::fault_proxy::{Fault, FaultProxy};
use end_to_end::fixture::{self, Fixture};
use serde_json::{Value, json};

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
    ensure!(story(bot.log(), "failed")?.text("code")? == "invalid_credentials", "{}", bot.log().tail());
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
    client.send(&json!({ "do": "log_in", "name": "Patient" }))?;
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
    ensure!(story(bot.log(), "failed")?.text("code")? == "network", "{}", bot.log().tail());
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
