//! The backend's HTTP interface as the tests use it: to prepare accounts and rooms, and to see what it holds.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use backend_protocol::admin::BanPlayer;
use backend_protocol::player_store::{
    Document, LoadPlayers, LoadedPlayers, PlayerDocuments, SaveDocuments, SaveItem, SaveResult,
    SavedDocuments,
};
use backend_protocol::registration::{RegisterServer, ServerLease};
use backend_protocol::rooms::{
    Attributes, CreateRoom, JoinTicket, Room, RoomCreation, RoomPage, RoomPassword, RoomVisibility,
};
use backend_protocol::session::{AnonymousLogin, Register, Session};
use backend_protocol::validation::{Jwk, Jwks, Validate};
use backend_protocol::{IDEMPOTENCY_KEY, Problem, routes};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::until;

/// A client of one backend that holds its server key.
#[derive(Clone)]
pub struct Api {
    http: Client,
    base_url: String,
    server_key: String,
}

/// A player logged in by the test itself.
pub struct Player {
    api: Api,
    session: Session,
}

impl Api {
    /// A client for the backend at `base_url`.
    pub fn new(base_url: &str, server_key: &str) -> Result<Self> {
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        Ok(Self { http, base_url: base_url.to_owned(), server_key: server_key.to_owned() })
    }

    /// Makes a guest account and logs it in.
    pub fn log_in(&self, display_name: &str) -> Result<Player> {
        let body = AnonymousLogin { display_name: Some(display_name.to_owned()) };
        let session = read(self.post(routes::AUTH_ANONYMOUS, None, &body)?)?;
        Ok(Player { api: self.clone(), session })
    }

    /// Makes an account with e-mail address and password.
    pub fn register_account(&self, email: &str, password: &str, display_name: &str) -> Result<Player> {
        let body = Register {
            email: email.to_owned(),
            password: password.to_owned(),
            display_name: display_name.to_owned(),
        };
        let session = read(self.post(routes::AUTH_REGISTER, None, &body)?)?;
        Ok(Player { api: self.clone(), session })
    }

    /// Every listed room, draining ones too.
    pub fn rooms(&self) -> Result<Vec<Room>> {
        let path = format!("{}?include_draining=true&limit=200", routes::ROOMS);
        let page: RoomPage = read(self.request(Method::GET, &path, Some(&self.server_key)).send()?)?;
        Ok(page.rooms)
    }

    /// Waits until exactly one room called `name` is listed and satisfies `wanted`.
    pub fn wait_for_room(&self, name: &str, what: &str, wanted: impl Fn(&Room) -> bool) -> Result<Room> {
        let mut seen = Vec::new();
        until(&format!("room {name}: {what}"), || {
            seen = self.rooms()?;
            let mut named = seen.iter().filter(|room| room.name == name);
            Ok(named.next().filter(|room| wanted(room)).filter(|_| named.next().is_none()).cloned())
        })
        .with_context(|| format!("listed at last: {seen:?}"))
    }

    /// Waits until no room called `name` is listed.
    pub fn wait_for_no_room(&self, name: &str) -> Result<()> {
        until(&format!("room {name} to leave the list"), || {
            Ok(self.rooms()?.iter().all(|room| room.name != name).then_some(()))
        })
    }

    /// Lists a server that exists only on paper, so that tickets for another server can be had.
    pub fn register_server(&self, name: &str) -> Result<ServerLease> {
        self.register_server_with_password(name, "")
    }

    /// The same with a room password, or none if it is empty.
    pub fn register_server_with_password(&self, name: &str, password: &str) -> Result<ServerLease> {
        self.register_server_as(name, "", password)
    }

    /// The same with a game mode.
    pub fn register_server_in_mode(&self, name: &str, mode: &str) -> Result<ServerLease> {
        self.register_server_as(name, mode, "")
    }

    fn register_server_as(&self, name: &str, mode: &str, password: &str) -> Result<ServerLease> {
        let body = RegisterServer {
            instance_id: format!("test-{}", Uuid::new_v4()),
            name: name.to_owned(),
            address: "127.0.0.1".to_owned(),
            port: 9,
            query_port: None,
            map: String::new(),
            mode: mode.to_owned(),
            region: String::new(),
            version: String::new(),
            tags: Vec::new(),
            players: 0,
            max_players: 8,
            certificate: None,
            visibility: RoomVisibility::Public,
            password: RoomPassword(password.to_owned()),
            attributes: Attributes::new(),
            allocation_id: None,
            relay: false,
        };
        read(self.post(routes::SERVERS, Some(&self.server_key), &body)?)
    }

    /// Takes `player_id` over for `server_id`, as another game server would.
    pub fn take_over(&self, server_id: &str, player_id: &str) -> Result<LoadedPlayers> {
        let body = LoadPlayers { server_id: server_id.to_owned(), player_ids: vec![player_id.to_owned()] };
        read(self.post(routes::PLAYERS_LOAD, Some(&self.server_key), &body)?)
    }

    /// Saves `value` as the document `key` in the name of `server_id`, which holds the player under `epoch`.
    pub fn save(
        &self,
        server_id: &str,
        player_id: &str,
        key: &str,
        (epoch, sequence): (i64, i64),
        value: Map<String, Value>,
    ) -> Result<SaveResult> {
        let item = SaveItem {
            player_id: player_id.to_owned(),
            key: key.to_owned(),
            epoch,
            sequence,
            value,
            loaded_version: None,
        };
        let body = SaveDocuments { server_id: server_id.to_owned(), items: vec![item] };
        let saved: SavedDocuments = read(self.post(routes::PLAYERS_SAVE, Some(&self.server_key), &body)?)?;
        saved.results.into_iter().next().context("no result")
    }

    /// Consumes `ticket` at the backend in the name of `server_id`.
    pub fn consume_ticket(&self, ticket: &str, server_id: &str) -> Result<()> {
        let body = Validate { token: ticket.to_owned(), server_id: Some(server_id.to_owned()) };
        let response = self.post(routes::VALIDATE, Some(&self.server_key), &body)?;
        ensure!(response.status().is_success(), "the backend refused the ticket: {}", response.text()?);
        Ok(())
    }

    /// Bans a player, as the operator who holds `admin_key`.
    pub fn ban(&self, admin_key: &str, player_id: &str) -> Result<()> {
        let path = routes::ADMIN_BAN.replace("{player_id}", player_id);
        let body = BanPlayer { reason: "test".to_owned(), seconds: None };
        let response = self.request(Method::PUT, &path, Some(admin_key)).json(&body).send()?;
        ensure!(response.status().is_success(), "the backend does not ban: {}", response.text()?);
        Ok(())
    }

    /// What it shows to a monitor.
    pub fn metrics(&self) -> Result<String> {
        Ok(self.request(Method::GET, routes::METRICS, None).send()?.text()?)
    }

    /// The keys the backend signs with.
    pub fn signing_keys(&self) -> Result<Vec<Jwk>> {
        let jwks: Jwks = read(self.request(Method::GET, routes::JWKS, None).send()?)?;
        Ok(jwks.keys)
    }

    fn post(&self, path: &str, bearer: Option<&str>, body: &impl Serialize) -> Result<Response> {
        let request = self.request(Method::POST, path, bearer);
        let request = request.header(IDEMPOTENCY_KEY, Uuid::new_v4().to_string());
        request.json(body).send().with_context(|| format!("POST {path}"))
    }

    fn request(&self, method: Method, path: &str, bearer: Option<&str>) -> reqwest::blocking::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base_url));
        match bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

impl Player {
    /// The account's id.
    pub fn id(&self) -> &str {
        &self.session.player_id
    }

    /// The player's refresh token.
    pub fn refresh_token(&self) -> &str {
        &self.session.refresh_token
    }

    /// Its access token.
    pub fn access_token(&self) -> &str {
        &self.session.access_token
    }

    /// A join ticket for `room_id`.
    pub fn ticket(&self, room_id: &str) -> Result<String> {
        let path = routes::ticket(room_id);
        let response = self
            .api
            .request(Method::POST, &path, Some(self.access_token()))
            .header(IDEMPOTENCY_KEY, Uuid::new_v4().to_string())
            .send()?;
        let ticket: JoinTicket = read(response)?;
        Ok(ticket.ticket)
    }

    /// Requests a room on demand and does not wait for it.
    pub fn request_room(&self, request_id: &str) -> Result<()> {
        let request_id = request_id.to_owned();
        let body = CreateRoom { request_id, wait_seconds: Some(0), ..CreateRoom::default() };
        let _starting: RoomCreation =
            read(self.api.post(routes::ROOMS, Some(self.access_token()), &body)?)?;
        Ok(())
    }

    /// The player's own document `key`, as the backend holds it now.
    pub fn document(&self, key: &str) -> Result<Option<Document>> {
        let request = self.api.request(Method::GET, routes::OWN_DOCUMENTS, Some(self.access_token()));
        let documents: PlayerDocuments = read(request.send()?)?;
        Ok(documents.documents.into_iter().find(|document| document.key == key))
    }

    /// Waits until the document `key` satisfies `wanted`.
    pub fn wait_for_document(&self, key: &str, wanted: impl Fn(&Document) -> bool) -> Result<Document> {
        let mut seen = None;
        until(&format!("document {key} in the backend"), || {
            seen = self.document(key)?;
            Ok(seen.clone().filter(&wanted))
        })
        .with_context(|| format!("last seen: {seen:?}"))
    }
}

fn read<T: DeserializeOwned>(response: Response) -> Result<T> {
    let status = response.status();
    let body = response.text()?;
    if !status.is_success() {
        match serde_json::from_str::<Problem>(&body) {
            Ok(problem) => bail!("{status} {}: {}", problem.code.as_str(), problem.detail),
            Err(_) => bail!("{status}: {body}"),
        }
    }
    serde_json::from_str(&body).with_context(|| format!("unexpected reply: {body}"))
}
