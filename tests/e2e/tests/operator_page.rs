//! The operator's page in a browser: a server is drained and a player banned with it, at the width of a desk and of a phone.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use test_harness::backend::Backend;
use test_harness::browser::Browser;
use test_harness::fixture;
use test_harness::picture::Picture;
use test_harness::programs;
use test_harness::room_servers::RoomServers;

/// Kept for people to look at.
fn shot(browser: &Browser, name: &str) -> Result<Picture> {
    let folder: PathBuf = programs::workspace().join("target/operator_page");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.png"));
    browser.screenshot(&file)?;
    let picture = Picture::open(&file)?;
    ensure!(picture.colours() > 8, "{name} has only {} colours", picture.colours());
    Ok(picture)
}

fn sign_in(browser: &Browser, backend: &Backend, key: &str) -> Result<()> {
    browser.go_to(&format!("{}/admin", backend.url()))?;
    browser.type_into("#key", key)?;
    browser.click("#login button")
}

fn is_within_its_width(browser: &Browser) -> Result<()> {
    let widths = browser.run("return [document.documentElement.scrollWidth, window.innerWidth]")?;
    ensure!(widths[0].as_f64() <= widths[1].as_f64(), "wider than the window: {widths}");
    Ok(())
}

/// What a server prints is what its players have written: text, whatever it looks like.
#[test]
fn the_log_of_a_room_is_on_the_operators_page() -> Result<()> {
    const PRINTS: &str = "echo loading the pond; echo '<img src=x onerror=\"document.title=1\">'; exit 3";
    let servers = RoomServers::of(&["sh", "-c", PRINTS], &json!({}))?;
    let backend = servers.backend(&[])?;
    let key = backend.admin_key()?;
    let ada = backend.api()?.log_in("Ada")?;
    ada.request_room("one")?;
    servers.wait_until_none_runs()?;

    for (name, size, is_phone) in [("desk", (1280, 900), false), ("phone", (390, 844), true)] {
        let browser = Browser::open(size, is_phone)?;
        sign_in(&browser, &backend, &key)?;
        browser
            .wait_until("document.querySelector('#allocations').textContent.includes('with exit code 3')")?;
        browser.click_button("allocations", "Log")?;
        browser
            .wait_until("document.querySelector('#log_lines').textContent.includes('loading the pond')")?;
        let shown = browser.run("return document.querySelector('#log_lines').textContent")?;
        ensure!(shown.as_str().is_some_and(|text| text.contains("<img src=x")), "{shown}");
        ensure!(browser.run("return document.querySelectorAll('img').length")? == 0, "text became markup");
        is_within_its_width(&browser)?;
        browser.run("document.querySelector('#on_demand').scrollIntoView()")?;
        shot(&browser, &format!("room_log_{name}"))?;
        browser.click("#leave")?;
        ensure!(
            browser.run("return document.querySelector('#log_lines').textContent")? == "",
            "the log is still there"
        );
        let complaints = browser.complaints()?;
        ensure!(complaints.is_empty(), "{complaints:?}");
    }
    Ok(())
}

#[test]
fn a_server_is_drained_and_a_player_banned_on_the_operators_page() -> Result<()> {
    let matchmaking = programs::workspace().join("godot/matchmaking/matchmaking.json").display().to_string();
    let mut backend = Backend::start_with(&["--matchmaking", &matchmaking])?;
    let api = backend.api()?;
    let key = backend.admin_key()?;
    let mut server = fixture::server("pond", &backend.url(), &backend.server_key_file())?.start()?;
    server.ask(&json!({ "do": "register" }))?;
    api.register_server_in_mode(
        "A server with a name that is as long as names are allowed to be",
        "capture",
    )?;
    api.register_server_in_mode("Reed", "race")?;
    let ada = api.log_in("Ada")?;
    server.ask(&json!({ "do": "load_players", "player_ids": [ada.id()] }))?;

    let browser = Browser::open((1280, 900), false)?;
    sign_in(&browser, &backend, "gak_admin_wrong")?;
    browser.wait_until("document.querySelector('#message').textContent !== ''")?;
    ensure!(browser.run("return document.querySelector('#content').hidden")? == true, "shown without a key");
    shot(&browser, "wrong_key")?;
    browser.complaints()?;
    sign_in(&browser, &backend, &key)?;
    browser.wait_until("document.querySelectorAll('#servers tbody tr').length === 3")?;
    ensure!(
        browser.run("return document.cookie + localStorage.length + sessionStorage.length")? == "00",
        "the page has stored something"
    );
    is_within_its_width(&browser)?;
    shot(&browser, "servers")?;

    let row =
        "[...document.querySelectorAll('#servers tbody tr')].find((row) => row.textContent.includes('pond'))";
    let press = |text: &str| {
        let buttons = format!("[...{row}.querySelectorAll('button')]");
        browser.run(&format!("{buttons}.find((one) => one.textContent === '{text}').click()"))
    };
    press("Players")?;
    browser.wait_until("document.querySelector('#players').textContent.includes('Ada')")?;
    browser.click_button("players", "Ban")?;
    browser.type_into("#reason", "flies")?;
    browser.type_into("#hours", "2")?;
    shot(&browser, "ban")?;
    browser.click("#yes")?;
    browser.wait_until("document.querySelector('#message').textContent.includes('is banned')")?;
    ensure!(ada.ticket(&api.register_server("Closed")?.server_id).is_err(), "a banned player got a ticket");
    browser.type_into("#player_id", ada.id())?;
    browser.click_button("find", "Find")?;
    browser.wait_until("document.querySelector('#player').textContent.includes('flies')")?;
    browser.click_button("player", "Unban")?;
    browser.wait_until("document.querySelector('#player').textContent.includes('Kick')")?;

    press("Drain")?;
    browser.wait_until("document.querySelector('#confirm').open")?;
    shot(&browser, "drain")?;
    browser.click("#yes")?;
    server.log().wait_for("drain_requested")?;
    browser.wait_until(&format!("!{row} || !{row}.textContent.includes('ready')"))?;
    shot(&browser, "drained")?;
    // The key that was wrong is the only thing that was refused.
    let complaints = browser.complaints()?;
    ensure!(complaints.iter().all(|one| one.contains("401")), "{complaints:?}");

    let phone = Browser::open((390, 844), true)?;
    sign_in(&phone, &backend, &key)?;
    phone.wait_until("document.querySelectorAll('#servers tbody tr').length >= 3")?;
    is_within_its_width(&phone)?;
    shot(&phone, "phone")?;
    phone.run("document.querySelector('#servers').scrollIntoView()")?;
    shot(&phone, "phone_servers")?;
    phone.click("#leave")?;
    ensure!(
        phone.run("return document.querySelector('#servers').children.length")? == 0,
        "the servers are still there"
    );
    server.godot().wait().context("the server")?;
    backend.stop()
}
