//! A backend in memory, with the rules of the real one and faults on demand, for the unit tests of the state machines.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backend_protocol::player_store::{
    Document, LoadPlayers, LoadedPlayer, LoadedPlayers, PlayerDocuments, SaveDocuments, SaveOutcome,
    SaveResult, SavedDocuments,
};
use backend_protocol::registration::{Heartbeat, HeartbeatReply, RegisterServer, ServerLease};
use backend_protocol::rooms::{JoinTicket, Room, RoomPage, RoomQuery};
use backend_protocol::session::{
    AnonymousLogin, DeviceLogin, Logout, PasswordLogin, Refresh, Register, Session,
};
use backend_protocol::validation::{Jwks, TokenKind, Validate, Validated};
use backend_protocol::{Code, Problem};

use crate::backend::{Backend, Reply};
use crate::error::{ClientError, Fault};
use crate::secret::ServerKey;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The request never arrives.
    LostRequest,
    /// The request is executed, its reply never arrives.
    LostReply,
    /// 503.
    Unavailable,
}

#[derive(Default)]
pub struct SimulatedBackend {
    pub state: Mutex<State>,
    pub calls: AtomicUsize,
}

#[derive(Default)]
pub struct State {
    /// Faults of the next calls, in order; `None` is a call that goes well.
    pub troubles: VecDeque<Option<Trouble>>,
    /// Every call fails with this until it is taken away.
    pub outage: Option<Trouble>,
    pub jwks: Option<Jwks>,
    pub heartbeats: Vec<Heartbeat>,
    pub forgotten: bool,
    pub registrations: usize,
    pub deregistered: bool,
    pub refresh_tokens_used: Vec<String>,
    pub revoked: bool,
    pub tickets_used: Vec<String>,
    pub holder: HashMap<String, (String, i64)>,
    pub documents: HashMap<(String, String), Stored>,
}

pub struct Stored {
    pub document: Document,
    pub epoch: i64,
    pub sequence: i64,
    /// (epoch, sequence) of every save that was applied, to find one applied twice.
    pub applied: Vec<(i64, i64)>,
}

pub fn server_key() -> ServerKey {
    ServerKey::parse("gsk_live_0123456789abcdef0123456789abcdef").expect("well formed")
}

impl SimulatedBackend {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub fn set_outage(&self, outage: Option<Trouble>) {
        self.state.lock().expect("not poisoned").outage = outage;
    }

    /// Runs `work` unless the request is lost; hides its reply if that is lost.
    async fn serve<T>(&self, work: impl FnOnce(&mut State) -> Reply<T>) -> Reply<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        // Somewhere else gets a turn, as on a network.
        tokio::task::yield_now().await;
        let mut state = self.state.lock().expect("not poisoned");
        let trouble = state.outage.or_else(|| state.troubles.pop_front().flatten());
        match trouble {
            None => work(&mut state),
            Some(Trouble::LostRequest) => Err(ClientError::new(Fault::Network, "lost request")),
            Some(Trouble::Unavailable) => Err(Problem::new(Code::Unavailable, "away").into()),
            Some(Trouble::LostReply) => {
                let _lost = work(&mut state);
                Err(ClientError::new(Fault::Timeout, "lost reply"))
            }
        }
    }

    fn session(number: usize, created: bool) -> Session {
        Session {
            player_id: "ada".into(),
            display_name: "Ada".into(),
            access_token: format!("access-{number}"),
            expires_in: 600,
            refresh_token: format!("refresh-{number}"),
            refresh_expires_in: 3_600,
            created,
        }
    }
}

#[async_trait]
impl Backend for SimulatedBackend {
    fn name(&self) -> String {
        "simulated".into()
    }

    async fn login_anonymous(&self, _body: &AnonymousLogin) -> Reply<Session> {
        self.serve(|_| Ok(Self::session(0, true))).await
    }

    async fn login_device(&self, _body: &DeviceLogin) -> Reply<Session> {
        self.serve(|_| Ok(Self::session(0, true))).await
    }

    async fn login_password(&self, _body: &PasswordLogin) -> Reply<Session> {
        self.serve(|_| Err(Problem::new(Code::InvalidCredentials, "no").into())).await
    }

    async fn register_account(&self, _body: &Register) -> Reply<Session> {
        self.serve(|_| Ok(Self::session(0, true))).await
    }

    async fn refresh(&self, body: &Refresh) -> Reply<Session> {
        let token = body.refresh_token.clone();
        self.serve(move |state| {
            if state.revoked {
                return Err(Problem::new(Code::RefreshTokenInvalid, "over").into());
            }
            let number: usize = token.rsplit('-').next().and_then(|n| n.parse().ok()).expect("ours");
            state.refresh_tokens_used.push(token);
            Ok(Self::session(number + 1, false))
        })
        .await
    }

    async fn logout(&self, _body: &Logout) -> Reply<()> {
        self.serve(|state| {
            state.revoked = true;
            Ok(())
        })
        .await
    }

    async fn jwks(&self) -> Reply<Jwks> {
        self.serve(|state| Ok(state.jwks.clone().unwrap_or(Jwks { keys: Vec::new() }))).await
    }

    async fn validate(&self, _key: &ServerKey, body: &Validate) -> Reply<Validated> {
        let token = body.token.clone();
        self.serve(move |state| {
            if state.tickets_used.contains(&token) {
                return Err(Problem::new(Code::TicketUsed, "used").into());
            }
            state.tickets_used.push(token);
            Ok(Validated {
                player_id: "ada".into(),
                display_name: "Ada".into(),
                kind: TokenKind::Join,
                expires_in: 60,
            })
        })
        .await
    }

    async fn register_server(&self, _key: &ServerKey, _body: &RegisterServer) -> Reply<ServerLease> {
        self.serve(|state| {
            state.registrations += 1;
            state.forgotten = false;
            Ok(ServerLease { server_id: "server-1".into(), lease_seconds: 60, heartbeat_seconds: 30 })
        })
        .await
    }

    async fn heartbeat(&self, _key: &ServerKey, _server_id: &str, body: &Heartbeat) -> Reply<HeartbeatReply> {
        let beat = body.clone();
        self.serve(move |state| {
            if state.forgotten {
                return Err(Problem::new(Code::ServerUnknown, "who?").into());
            }
            state.heartbeats.push(beat);
            Ok(HeartbeatReply { lease_seconds: 60, heartbeat_seconds: 30, drain: false })
        })
        .await
    }

    async fn deregister_server(&self, _key: &ServerKey, _server_id: &str) -> Reply<()> {
        self.serve(|state| {
            state.deregistered = true;
            Ok(())
        })
        .await
    }

    async fn rooms(&self, access_token: &str, _query: &RoomQuery) -> Reply<RoomPage> {
        let stale = access_token == "access-0";
        self.serve(move |state| {
            // The first token was revoked behind the client's back.
            if stale && state.revoked {
                return Err(Problem::new(Code::TokenExpired, "old").into());
            }
            Ok(RoomPage { rooms: Vec::new(), next_cursor: None })
        })
        .await
    }

    async fn room(&self, _access_token: &str, _room_id: &str) -> Reply<Room> {
        self.serve(|_| Err(Problem::new(Code::RoomNotFound, "none").into())).await
    }

    async fn ticket(&self, _access_token: &str, _room_id: &str) -> Reply<JoinTicket> {
        self.serve(|_| Err(Problem::new(Code::RoomFull, "full").into())).await
    }

    async fn load_players(&self, _key: &ServerKey, body: &LoadPlayers) -> Reply<LoadedPlayers> {
        let body = body.clone();
        self.serve(move |state| {
            let mut players = Vec::new();
            for player_id in body.player_ids {
                let entry = state.holder.entry(player_id.clone()).or_insert((body.server_id.clone(), 1));
                if entry.0 != body.server_id {
                    *entry = (body.server_id.clone(), entry.1 + 1);
                }
                let epoch = entry.1;
                let of_player = || state.documents.iter().filter(|((owner, _), _)| *owner == player_id);
                let sequence = of_player()
                    .filter(|(_, stored)| stored.epoch == epoch)
                    .map(|(_, stored)| stored.sequence);
                let sequence = sequence.max().unwrap_or(0);
                let documents = of_player().map(|(_, stored)| stored.document.clone()).collect();
                players.push(LoadedPlayer { player_id, epoch, sequence, documents });
            }
            Ok(LoadedPlayers { players })
        })
        .await
    }

    async fn save_documents(&self, _key: &ServerKey, body: &SaveDocuments) -> Reply<SavedDocuments> {
        let body = body.clone();
        self.serve(move |state| {
            let results = body.items.into_iter().map(|item| apply(state, &body.server_id, item)).collect();
            Ok(SavedDocuments { results })
        })
        .await
    }

    async fn own_documents(&self, _access_token: &str) -> Reply<PlayerDocuments> {
        self.serve(|_| Ok(PlayerDocuments { player_id: "ada".into(), documents: Vec::new() })).await
    }
}

fn apply(state: &mut State, server_id: &str, item: backend_protocol::player_store::SaveItem) -> SaveResult {
    let name = (item.player_id.clone(), item.key.clone());
    let version = state.documents.get(&name).map_or(0, |stored| stored.document.version);
    let result = |outcome, version| SaveResult {
        player_id: item.player_id.clone(),
        key: item.key.clone(),
        outcome,
        version,
    };
    if state.holder.get(&item.player_id) != Some(&(server_id.to_owned(), item.epoch)) {
        return result(SaveOutcome::LeaseLost, version);
    }
    if let Some(stored) = state.documents.get(&name)
        && stored.epoch == item.epoch
        && stored.sequence >= item.sequence
    {
        let same = stored.sequence == item.sequence && stored.document.value == item.value;
        return result(if same { SaveOutcome::Replayed } else { SaveOutcome::Superseded }, version);
    }
    let mut applied = state.documents.remove(&name).map(|stored| stored.applied).unwrap_or_default();
    applied.push((item.epoch, item.sequence));
    let document = Document {
        key: item.key.clone(),
        version: version + 1,
        value: item.value.clone(),
        updated_at: String::new(),
    };
    state.documents.insert(name, Stored { document, epoch: item.epoch, sequence: item.sequence, applied });
    result(SaveOutcome::Applied, version + 1)
}
