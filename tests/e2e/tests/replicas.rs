//! Two replicas of the backend on one PostgreSQL behind a load balancer: real clients create a room on demand, play in it and follow
//! the list, while one replica is killed and the other one restarted.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use test_database::TestDatabase;
use test_harness::backend::{Backend, as_whole};
use test_harness::demo;
use test_harness::fixture::{self, Fixture};
use test_harness::godot::Launch;
use test_harness::room_servers::RoomServers;
use test_harness::round_robin::RoundRobin;
use test_harness::until;

/// `BackendRoomFollow.STATE_LIVE`.
const BY_EVENTS: i64 = 1;

/// A replica, with the servers of its own host.
struct Replica {
    backend: Backend,
    servers: RoomServers,
}

impl Replica {
    fn start(database: &TestDatabase, proxy: &RoundRobin) -> Result<Self> {
        let servers =
            RoomServers::of_the_demo(&json!({"backend_url": proxy.url(), "empty_timeout_seconds": 0}))?;
        let backend = servers.backend_on(Some(database.location().to_owned()), &[])?;
        proxy.add(backend.address());
        Ok(Self { backend, servers })
    }

    fn started(&self) -> usize {
        self.servers.kept().len()
    }
}

fn player(name: &str, proxy: &RoundRobin) -> Result<Fixture> {
    let mut client = fixture::client(name, &proxy.url())?.start()?;
    client.ask(&json!({"do": "log_in", "name": name}))?;
    Ok(client)
}

/// Waits until the list that a client follows, and what its signals have told, is this.
fn wait_for_followed(client: &mut Fixture, expected: &[(&str, &str)]) -> Result<()> {
    let mut seen = Value::Null;
    let told: Value = expected.iter().map(|(id, name)| ((*id).to_owned(), json!(name))).collect();
    let followed = until(&format!("the followed list {expected:?}"), || {
        seen = client.ask(&json!({"do": "followed"}))?;
        let rooms = seen["rooms"].as_array().context("no rooms")?;
        let same = rooms.len() == expected.len()
            && rooms
                .iter()
                .zip(expected)
                .all(|(room, (id, name))| room["room_id"] == *id && room["name"] == *name);
        Ok((same && seen["told"] == told).then_some(()))
    });
    followed.with_context(|| format!("last seen: {seen}\n{}", client.log().tail()))?;
    let lines = client.log().lines();
    let contradiction = lines.iter().find(|line| line.contains("EVENT contradiction"));
    ensure!(contradiction.is_none(), "{contradiction:?}");
    Ok(())
}

#[test]
fn a_room_outlives_the_replica_that_started_it_and_each_follower_knows() -> Result<()> {
    let database = TestDatabase::postgres()?;
    let proxy = RoundRobin::start()?;
    let mut replicas = [Replica::start(&database, &proxy)?, Replica::start(&database, &proxy)?];
    let mut eve = player("Eve", &proxy)?;
    let mut ada = player("Ada", &proxy)?;
    let mut bob = player("Bob", &proxy)?;
    let followed = eve.ask(&json!({"do": "follow", "mode": "race"}))?;
    // Its stream comes from one of the two, and breaks when that one goes.
    ensure!(as_whole(&followed["state"]) == BY_EVENTS, "{followed}");
    wait_for_followed(&mut eve, &[])?;

    // The replica that starts the server is killed before that one has registered, or just after it.
    ada.send(&json!({"do": "create_room", "name": "Lily", "mode": "race", "max_players": 4}))?;
    let host = until("a replica to start a server", || {
        Ok(replicas.iter().position(|replica| replica.started() > 0))
    })?;
    let server = replicas[host].servers.server_pid()?;
    replicas[host].backend.kill()?;
    let created = ada.answer()?;
    let room_id = created["room_id"].as_str().with_context(|| created.to_string())?.to_owned();
    ensure!(created["name"] == "Lily", "{created}");
    wait_for_followed(&mut eve, &[(&room_id, "Lily")])?;

    // It is back, and the other one is restarted while the next player comes.
    replicas[host].backend.resume()?;
    bob.send(&json!({"do": "quick_play", "mode": "race"}))?;
    let other = &mut replicas[1 - host].backend;
    other.stop()?;
    other.resume()?;
    let found = bob.answer()?;
    ensure!(found["room_id"] == room_id.as_str(), "{created} {found}");
    ensure!(replicas[host].servers.server_pid()? == server, "it was started again");
    ensure!(replicas.iter().map(Replica::started).sum::<usize>() == 1, "there is a second server");

    // The room is as good as any: two bots race in it.
    let mut bots = ["Ada", "Bob"]
        .map(|name| demo::bot(name, "Lily", &proxy.url()))
        .map(Launch::start)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for bot in &mut bots {
        bot.finish(0)?;
    }
    for replica in &replicas {
        let rooms = replica.backend.api()?.rooms()?;
        ensure!(rooms.len() == 1 && rooms[0].room_id == room_id, "{rooms:?}");
    }
    wait_for_followed(&mut eve, &[(&room_id, "Lily")])?;

    // Its end is seen by the replica that was killed, and told by both.
    kill_process(Pid::from_raw(server).context("no process")?, Signal::KILL)?;
    wait_for_followed(&mut eve, &[])?;
    replicas[host].servers.wait_until_none_runs()?;
    ensure!(proxy.given().iter().all(|count| *count > 0), "{:?}", proxy.given());
    for client in [&mut eve, &mut ada, &mut bob] {
        client.ask(&json!({"do": "quit"}))?;
        client.godot().finish(0)?;
    }
    for replica in &mut replicas {
        replica.backend.stop()?;
    }
    Ok(())
}
