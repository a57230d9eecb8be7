//! The routes that are loaded, and with what.

use anyhow::{Context, Result};
use backend_client::protocol::routes;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use test_harness::api::Api;

use super::load::Load;
use super::population::{Population, document, player_id, server_id};
use crate::bare_server::EMPTY;

/// Documents in a batch of saves, the most there may be.
pub const BATCH: usize = 100;
/// The server that holds all players that are saved.
pub const HOLDER: usize = 0;
/// The server that loads players.
const LOADER: usize = 1;
/// Servers from here on send heartbeats.
const BEATING: usize = 2;
/// wrk's connections, but where a route says otherwise.
const CONNECTIONS: usize = 64;
/// Players whose tokens are shown.
const TOKENS: usize = 32;

const OPENAPI: &str = "OpenAPI";
const ROOMS_OF_PLAYER: &str = "rooms, for a player";

/// What a route is held to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part of an empty handler.
    Read,
    /// Shown, and not judged: bound by the disk, by its size, or meant to be slow.
    Shown,
    /// A part of the database's own rate.
    Saves,
}

/// One route under load.
pub struct Route {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it is loaded in a quick run, too.
    pub in_quick: bool,
    pub load: Load,
}

/// Who asks: keys, tokens and what was put into the database.
pub struct Askers {
    key: String,
    tokens: Vec<String>,
    population: Population,
    url: String,
}

impl Askers {
    pub fn log_in(url: &str, key: &str, population: Population) -> Result<Self> {
        let api = Api::new(url, key)?;
        let mut tokens = Vec::new();
        for number in 0..TOKENS {
            tokens.push(api.log_in(&format!("Player {number}"))?.access_token().to_owned());
        }
        // The same account in every round.
        if api.register_account(EMAIL, PASSWORD, "Ada").is_err() {
            api.log_in("Ada")?;
        }
        Ok(Self { key: key.to_owned(), tokens, population, url: url.to_owned() })
    }

    /// Enough for all connections. Those of an earlier run are used up.
    fn refresh_tokens(&self) -> Result<Vec<String>> {
        let api = Api::new(&self.url, &self.key)?;
        let log_in = |number| Ok(api.log_in(&format!("Refresher {number}"))?.refresh_token().to_owned());
        (0..CONNECTIONS * 2).map(log_in).collect()
    }

    /// The ETag a reader of `path` would come back with.
    fn tag(&self, path: &str) -> Result<String> {
        let reply = Client::builder()
            .no_proxy()
            .build()?
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.key)
            .send()?;
        Ok(reply.headers().get("etag").context("no ETag")?.to_str()?.to_owned())
    }

    /// All routes. `run` differs from run to run, `since` grows: sequences of saves and heartbeats begin after it.
    pub fn routes(&self, run: &str, since: u64) -> Result<Vec<Route>> {
        let key = json!({ "Authorization": format!("Bearer {}", self.key) });
        let player = json!({ "Authorization": format!("Bearer {}", self.tokens[0]) });
        let read = |name, path: &str, headers: &Value| Route {
            name,
            // The document is as large as it is: its bytes are what it costs.
            kind: if name == OPENAPI { Kind::Shown } else { Kind::Read },
            in_quick: !matches!(name, OPENAPI | ROOMS_OF_PLAYER),
            load: fixed(&[("GET", path.to_owned(), String::new())], headers),
        };
        let rooms = routes::ROOMS;
        let room = format!("{rooms}/{}", server_id(self.population.servers / 2));
        let mut known = key.clone();
        known["If-None-Match"] = self.tag(rooms)?.into();
        let tokens: Vec<_> =
            self.tokens.iter().map(|token| post(routes::VALIDATE, &json!({ "token": token }))).collect();
        let mut all = vec![
            read("healthz", routes::HEALTHZ, &json!({})),
            read("JWKS", routes::JWKS, &json!({})),
            read(OPENAPI, routes::OPENAPI, &json!({})),
            read("rooms, page of 50", rooms, &key),
            read(ROOMS_OF_PLAYER, rooms, &player),
            read("rooms, of one map", &format!("{rooms}?map=map-7"), &key),
            read("rooms, unchanged (304)", rooms, &known),
            read("one room", &room, &key),
            Route { name: "validate", kind: Kind::Read, in_quick: true, load: fixed(&tokens, &key) },
        ];
        all.extend(self.writes(run, since, &room, &key, &player)?);
        Ok(all)
    }

    fn writes(&self, run: &str, since: u64, room: &str, key: &Value, player: &Value) -> Result<Vec<Route>> {
        let write = |name, load| Route { name, kind: Kind::Shown, in_quick: true, load };
        let json = json!({});
        let loads: Vec<_> = self
            .loaded()
            .map(|number| {
                let body = json!({ "server_id": server_id(LOADER), "player_ids": [player_id(number)] });
                post(routes::PLAYERS_LOAD, &body)
            })
            .collect();
        let login = [post(routes::AUTH_ANONYMOUS, &json!({}))];
        let password = [post(routes::AUTH_PASSWORD, &json!({ "email": EMAIL, "password": PASSWORD }))];
        Ok(vec![
            write("ticket", fixed(&[("POST", format!("{room}/ticket"), String::new())], player)),
            write("heartbeat", self.heartbeat(since, key)),
            write("load of one player", fixed(&loads, key)),
            Route { name: super::SAVES, kind: Kind::Saves, in_quick: true, load: self.save(since, key) },
            write("guest login", fixed(&login, &json)),
            write(
                "refresh",
                lua(include_str!("load/refresh.lua"), &json, &[("tokens", json!(self.refresh_tokens()?))]),
            ),
            write("register a server", lua(include_str!("load/register.lua"), key, &[("run", json!(run))])),
            // More would only wait: argon2 takes a core for 20 ms each.
            write("password login", Load { connections: 4, ..fixed(&password, &json) }),
        ])
    }

    fn heartbeat(&self, since: u64, key: &Value) -> Load {
        // wrk does not get on with more.
        let servers: Vec<String> = (BEATING..self.population.servers.min(5_000)).map(server_id).collect();
        lua(
            include_str!("load/heartbeat.lua"),
            key,
            &[("servers", json!(servers)), ("since", json!(since + 1))],
        )
    }

    /// Players that are saved.
    pub const fn saved(population: Population) -> usize {
        // Two connections' worth at least, so that no document is in two batches at a time.
        let most = population.players * 2 / 5 / BATCH * BATCH;
        if most > 64 * BATCH { 64 * BATCH } else { most }
    }

    fn save(&self, since: u64, key: &Value) -> Load {
        let document = document(self.population.document);
        let batches: Vec<String> = (0..Self::saved(self.population) / BATCH)
            .map(|batch| {
                let items: Vec<String> = (0..BATCH)
                    .map(|number| {
                        format!(
                            "{{\"player_id\":\"{}\",\"key\":\"progress\",\"epoch\":1,\"sequence\":@,\"value\":{document}}}",
                            player_id(batch * BATCH + number)
                        )
                    })
                    .collect();
                format!("{{\"server_id\":\"{}\",\"items\":[{}]}}", server_id(HOLDER), items.join(","))
            })
            .collect();
        let connections = (batches.len() / 4).clamp(2, 16);
        let load = lua(
            include_str!("load/save.lua"),
            key,
            &[("batches", json!(batches)), ("since", json!(since + 1))],
        );
        Load { connections, ..load }
    }

    /// Players that are loaded: all over the table, none that is saved.
    fn loaded(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, all) = (self.population.players * 4 / 5, self.population.players);
        let count = (all - first).min(2_000);
        (0..count).map(move |number| first + number * (all - first) / count)
    }
}

const EMAIL: &str = "ada@example.org";
const PASSWORD: &str = "correct horse battery staple";

fn post(path: &str, body: &Value) -> (&'static str, String, String) {
    ("POST", path.to_owned(), body.to_string())
}

fn fixed(requests: &[(&'static str, String, String)], headers: &Value) -> Load {
    let requests: Vec<Value> = requests
        .iter()
        .map(|(method, path, body)| json!({ "method": method, "path": path, "body": body }))
        .collect();
    lua(include_str!("load/fixed.lua"), headers, &[("requests", json!(requests))])
}

fn lua(script: &'static str, headers: &Value, values: &[(&str, Value)]) -> Load {
    let mut headers = headers.clone();
    headers["Content-Type"] = "application/json".into();
    let mut before = format!("headers = {}\n", literal(&headers));
    for (name, value) in values {
        before += &format!("{name} = {}\n", literal(value));
    }
    Load { script, before, connections: CONNECTIONS }
}

/// A value as Lua writes it.
fn literal(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let members =
                members.iter().map(|(name, value)| format!("[{}]={}", quoted(name), literal(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Of a server that does nothing.
pub fn empty() -> Load {
    fixed(&[("GET", EMPTY.to_owned(), String::new())], &json!({}))
}
