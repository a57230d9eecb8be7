//! Who gets onto a game server, and who does not.

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::api::Api;
use test_harness::backend::Backend;
use test_harness::fault_proxy::{Fault, FaultProxy};
use test_harness::fixture::{self, Fixture};
use test_harness::{forgery, until};

/// What the engine prints by itself, whatever the addon does, about a peer that sends packets of the game without being admitted:
/// they are thrown away, which is the point.
const UNADMITTED_PACKET: &[&str] = &["SYS_COMMAND_AUTH"];

/// About anybody else.
const NOTHING: &[&str] = &[];

struct Door {
    server: Fixture,
    room_id: String,
    port: u16,
}

impl Door {
    /// A game server that reaches `backend` under `url`.
    fn open(backend: &Backend, url: &str, arguments: &[&str]) -> Result<Self> {
        let mut launch = fixture::server("Door", url, &backend.server_key_file())?;
        for argument in arguments {
            launch = launch.arg(argument);
        }
        let mut server = launch.start()?;
        let registered = server.ask(&json!({ "do": "register" }))?;
        let room_id = registered["server_id"].as_str().with_context(|| registered.to_string())?.to_owned();
        let port = registered["port"].as_f64().with_context(|| registered.to_string())? as u16;
        Ok(Self { server, room_id, port })
    }

    /// `client` shows `token`; what became of it.
    fn knock(&self, client: &mut Fixture, token: &str) -> Result<Value> {
        client.ask(&json!({ "do": "join", "port": self.port, "ticket": token }))
    }

    /// `client` shows `token` and is refused with one of `codes`, on both ends.
    fn is_refused(&self, client: &mut Fixture, what: &str, token: &str, codes: &[&str]) -> Result<()> {
        let seen = self.server.log().len();
        let answer = self.knock(client, token)?;
        ensure!(answer["outcome"] == "refused", "a token {what}: {answer}\n{}", self.server.log().tail());
        let code = answer["code"].as_str().unwrap_or_default();
        ensure!(codes.contains(&code), "a token {what} should be refused as {codes:?}: {answer}");
        self.server.log().wait_after(seen, &format!("code={code}"))?;
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        self.server.godot().signal(Signal::TERM)?;
        self.server.godot().finish(0)
    }

    /// [`Door::close`] after visitors about whom the engine complains.
    fn close_despite(mut self, complaints: &[&str]) -> Result<()> {
        self.server.godot().signal(Signal::TERM)?;
        self.server.godot().finish_despite(0, complaints)
    }
}

fn leave(mut client: Fixture) -> Result<()> {
    client.ask(&json!({ "do": "quit" }))?;
    client.godot().finish(0)
}

fn public_key(api: &Api) -> Result<String> {
    Ok(api.signing_keys()?.first().context("the backend publishes no key")?.x.clone())
}

#[test]
fn a_ticket_lets_its_player_in_once_and_no_forgery_does() -> Result<()> {
    let backend = Backend::start()?;
    let api = backend.api()?;
    let door = Door::open(&backend, &backend.url(), &[])?;
    let ada = api.log_in("Ada")?;
    let mut client = fixture::client("client", &backend.url())?.start()?;

    let ticket = ada.ticket(&door.room_id)?;
    for (what, forged) in forgery::forgeries(&ticket, &public_key(&api)?)? {
        door.is_refused(&mut client, what, &forged, &["token_invalid"])?;
    }
    door.is_refused(&mut client, "that is none", "hello", &["token_invalid"])?;
    let elsewhere = api.register_server("Elsewhere")?;
    let misdirected = ada.ticket(&elsewhere.server_id)?;
    door.is_refused(&mut client, "for another server", &misdirected, &["token_invalid"])?;
    let consumed = ada.ticket(&door.room_id)?;
    api.consume_ticket(&consumed, &door.room_id)?;
    door.is_refused(&mut client, "used up at the backend", &consumed, &["ticket_used"])?;
    ensure!(!door.server.log().contains("EVENT peer_verified"), "{}", door.server.log().tail());

    // All those refusals have not spoilt the ticket itself.
    let answer = door.knock(&mut client, &ticket)?;
    ensure!(answer["outcome"] == "authenticated", "{answer}\n{}", door.server.log().tail());
    let verified = door.server.log().wait_for("EVENT peer_verified")?;
    ensure!(verified.ends_with(&format!("player={}", ada.id())), "{verified}");
    client.ask(&json!({ "do": "greet", "text": "verified" }))?;
    door.server.log().wait_for("EVENT greeted")?;
    api.wait_for_room("Door", "one player", |room| room.players == 1)?;

    client.ask(&json!({ "do": "leave" }))?;
    door.server.log().wait_for("EVENT peer_left")?;
    door.is_refused(&mut client, "shown a second time", &ticket, &["ticket_used"])?;
    leave(client)?;
    door.close()
}

#[test]
fn trouble_between_server_and_backend_does_not_cost_a_player_the_ticket() -> Result<()> {
    let backend = Backend::start()?;
    let api = backend.api()?;
    let proxy = FaultProxy::start(backend.address())?;
    let door = Door::open(&backend, &proxy.url(), &["--auth-timeout=30"])?;
    let ada = api.log_in("Ada")?;
    let mut client = fixture::client("client", &backend.url())?.start()?;

    // The backend used the ticket up, and the server never learnt of it: asking again must not look like a replay.
    let ticket = ada.ticket(&door.room_id)?;
    proxy.set(Fault::DropReply { path: "/v1/validate".to_owned() });
    client.send(&json!({ "do": "join", "port": door.port, "ticket": ticket }))?;
    proxy.wait_for_dropped_replies(1)?;
    proxy.set(Fault::None);
    let answer = client.answer()?;
    ensure!(answer["outcome"] == "authenticated", "{answer}\n{}", door.server.log().tail());
    client.ask(&json!({ "do": "leave" }))?;

    // Without a backend the server judges by itself, and remembers what it has seen.
    let ticket = ada.ticket(&door.room_id)?;
    proxy.set(Fault::Refuse);
    let answer = door.knock(&mut client, &ticket)?;
    ensure!(answer["outcome"] == "authenticated", "{answer}\n{}", door.server.log().tail());
    client.ask(&json!({ "do": "leave" }))?;
    door.is_refused(&mut client, "shown a second time", &ticket, &["ticket_used"])?;
    for (what, forged) in forgery::forgeries(&ada.ticket(&door.room_id)?, &public_key(&api)?)? {
        door.is_refused(&mut client, what, &forged, &["token_invalid"])?;
    }
    proxy.set(Fault::None);
    leave(client)?;
    door.close()
}

#[test]
fn tokens_and_tickets_are_good_until_they_expire() -> Result<()> {
    let backend = Backend::start_with(&["--access-token-seconds", "5", "--ticket-seconds", "1"])?;
    let api = backend.api()?;
    let door = Door::open(&backend, &backend.url(), &["--accept-access-tokens=yes"])?;
    let ada = api.log_in("Ada")?;
    let ticket = ada.ticket(&door.room_id)?;
    let mut client = fixture::client("client", &backend.url())?.start()?;

    let expires = forgery::expiry(&ticket)?;
    until("the ticket to expire", || Ok((SystemTime::now() > expires).then_some(())))?;
    door.is_refused(&mut client, "past its time", &ticket, &["token_expired"])?;

    // An access token may be shown more than once, so that its end can be watched.
    let bob = api.log_in("Bob")?;
    let answer = until("the token to expire", || {
        let answer = door.knock(&mut client, bob.access_token())?;
        client.ask(&json!({ "do": "leave" }))?;
        Ok((answer["outcome"] != "authenticated").then_some(answer))
    })?;
    ensure!(answer["outcome"] == "refused" && answer["code"] == "token_expired", "{answer}");
    ensure!(
        door.server.log().contains("EVENT peer_verified"),
        "it was never good\n{}",
        door.server.log().tail()
    );
    leave(client)?;
    door.close()
}

#[test]
fn strangers_are_turned_away_and_nothing_they_send_arrives() -> Result<()> {
    let backend = Backend::start()?;
    let api = backend.api()?;
    let door = Door::open(&backend, &backend.url(), &["--auth-timeout=1"])?;
    let mut stranger = fixture::unauthenticated_client("stranger", &backend.url())?.start()?;

    let visits = [
        (json!({ "do": "stay_silent" }), "auth_timeout", NOTHING),
        (json!({ "do": "send_garbage", "bytes": 1 }), "handshake_invalid", NOTHING),
        (json!({ "do": "send_garbage", "bytes": 1_000 }), "handshake_invalid", NOTHING),
        (json!({ "do": "send_garbage", "bytes": 60_000 }), "handshake_invalid", NOTHING),
        (json!({ "do": "send_text", "text": "{\"token\": 7}" }), "handshake_invalid", NOTHING),
        (json!({ "do": "send_text", "text": "[".repeat(10_000) }), "handshake_invalid", NOTHING),
        (json!({ "do": "presume" }), "auth_timeout", NOTHING),
        (json!({ "do": "barge_in" }), "auth_timeout", UNADMITTED_PACKET),
    ];
    let mut complaints = Vec::new();
    for (mut visit, code, printed) in visits {
        let seen = door.server.log().len();
        visit["port"] = json!(door.port);
        stranger.ask(&visit)?;
        // Refused with a reason, not merely lost.
        let refused = door.server.log().wait_after(seen, "EVENT peer_refused").context(visit.to_string())?;
        ensure!(refused.ends_with(&format!("code={code}")), "{visit}: {refused}");
        // No stranger makes the engine print an error, but for those about whom it does so by itself.
        complaints.extend_from_slice(printed);
        door.server.log().check_clean(&complaints).with_context(|| visit.to_string())?;
    }
    for event in ["EVENT peer_verified", "EVENT greeted", "EVENT packet"] {
        ensure!(!door.server.log().contains(event), "{event}\n{}", door.server.log().tail());
    }

    // The door still opens for those who belong.
    let ticket = api.log_in("Ada")?.ticket(&door.room_id)?;
    let mut client = fixture::client("client", &backend.url())?.start()?;
    let answer = door.knock(&mut client, &ticket)?;
    ensure!(answer["outcome"] == "authenticated", "{answer}\n{}", door.server.log().tail());
    leave(client)?;
    // A stranger's own engine may well complain of how it was treated.
    stranger.godot().kill()?;
    door.close_despite(&complaints)
}

#[test]
fn a_banned_player_is_sent_away_as_soon_as_the_server_hears_of_it() -> Result<()> {
    let backend = Backend::start_with(&["--heartbeat-seconds=1"])?;
    let api = backend.api()?;
    let admin_key = backend.admin_key()?;
    let proxy = FaultProxy::start(backend.address())?;
    let door = Door::open(&backend, &proxy.url(), &[])?;
    let (ada, bo) = (api.log_in("Ada")?, api.log_in("Bo")?);
    let mut first = fixture::client("first", &backend.url())?.start()?;
    let mut second = fixture::client("second", &backend.url())?.start()?;
    for (client, player) in [(&mut first, &ada), (&mut second, &bo)] {
        let answer = door.knock(client, &player.ticket(&door.room_id)?)?;
        ensure!(answer["outcome"] == "authenticated", "{answer}\n{}", door.server.log().tail());
    }

    // While the server cannot hear of it, the player stays, and so does everybody else.
    let unused = ada.ticket(&door.room_id)?;
    proxy.set(Fault::Refuse);
    api.ban(&admin_key, ada.id())?;
    door.server.log().wait_for("EVENT heartbeat_failed")?;
    ensure!(!door.server.log().contains("EVENT peer_left"), "{}", door.server.log().tail());
    proxy.set(Fault::None);
    let left = door.server.log().wait_for("EVENT peer_left")?;
    ensure!(left.ends_with(&format!("player={}", ada.id())), "{left}");
    door.server.log().wait_for("code=banned")?;
    first.log().wait_for("EVENT refused code=banned")?;

    // It remembers that without the backend.
    proxy.set(Fault::Refuse);
    door.is_refused(&mut first, "of a banned player", &unused, &["banned"])?;
    second.ask(&json!({ "do": "greet", "text": "still here" }))?;
    door.server.log().wait_for("EVENT greeted")?;
    proxy.set(Fault::None);
    leave(first)?;
    leave(second)?;
    door.close()
}
