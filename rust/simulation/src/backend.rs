//! The backend's methods, over a network that does what it is told.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backend_protocol::player_store::{
    LoadPlayers, LoadedPlayers, PlayerConflicts, PlayerDocuments, ReleasePlayers, ReleasedPlayers,
    ResolveConflicts, SavedDocuments,
};
use backend_protocol::registration::{Heartbeat, HeartbeatReply, RegisterServer, ServerLease};
use backend_protocol::rooms::{JoinByCode, JoinTicket, RequestTicket, Room, RoomPage, RoomQuery};
use backend_protocol::session::{
    AnonymousLogin, DeviceLogin, Logout, PasswordLogin, Refresh, Register, Session,
};
use backend_protocol::validation::{Jwks, TokenKind, Validate, Validated};
use backend_protocol::{Code, Problem};

use super::{Network, State, Trouble};
use backend_client::api::backend::{Backend, PublishedKeys, Reply};
use backend_client::error::{ClientError, Fault};
use backend_client::platform::secret::ServerKey;
use backend_client::player_store::Batch;

#[derive(Default)]
pub struct SimulatedBackend {
    pub state: Arc<Mutex<State>>,
    pub calls: AtomicUsize,
    /// Seconds by which the client's clock is said to be ahead.
    pub clock_difference: AtomicI64,
    line: Option<Network>,
}

pub fn server_key() -> ServerKey {
    ServerKey::parse("gsk_live_0123456789abcdef0123456789abcdef").expect("well formed")
}

impl SimulatedBackend {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The same backend, as one process reaches it.
    pub fn through(&self, line: Network) -> Arc<Self> {
        Arc::new(Self { state: Arc::clone(&self.state), line: Some(line), ..Self::default() })
    }

    pub fn set_outage(&self, outage: Option<Trouble>) {
        self.state.lock().expect("not poisoned").outage = outage;
    }

    /// Runs `work` unless the request is lost; hides its reply if that is lost.
    async fn serve<T: Send + 'static>(
        &self,
        call: &'static str,
        work: impl Fn(&mut State) -> Reply<T> + Send + 'static,
    ) -> Reply<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(line) = &self.line {
            return line.carry(call, &self.state, work).await;
        }
        // Somewhere else gets a turn, as on a network.
        tokio::task::yield_now().await;
        let (reply, late) = {
            let mut state = self.state.lock().expect("not poisoned");
            let lost = (state.lost_call == Some(call)).then_some(Trouble::LostRequest);
            let trouble = state.outage.or(lost).or_else(|| state.troubles.pop_front().flatten());
            match trouble {
                None => return work(&mut state),
                Some(Trouble::LostRequest) => return Err(ClientError::new(Fault::Network, "lost request")),
                Some(Trouble::Unavailable) => return Err(Problem::new(Code::Unavailable, "away").into()),
                Some(Trouble::LostReply) => {
                    let _lost = work(&mut state);
                    return Err(ClientError::new(Fault::Timeout, "lost reply"));
                }
                Some(Trouble::LateReply(late)) => (work(&mut state), late),
            }
        };
        tokio::time::sleep(late).await;
        reply
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

    fn clock_difference(&self) -> i64 {
        self.clock_difference.load(Ordering::SeqCst)
    }

    async fn login_anonymous(&self, _body: &AnonymousLogin) -> Reply<Session> {
        self.serve("login", |_| Ok(Self::session(0, true))).await
    }

    async fn login_device(&self, _body: &DeviceLogin) -> Reply<Session> {
        self.serve("login", |_| Ok(Self::session(0, true))).await
    }

    async fn login_password(&self, _body: &PasswordLogin) -> Reply<Session> {
        self.serve("login", |_| Err(Problem::new(Code::InvalidCredentials, "no").into())).await
    }

    async fn register_account(&self, _body: &Register) -> Reply<Session> {
        self.serve("login", |_| Ok(Self::session(0, true))).await
    }

    async fn refresh(&self, body: &Refresh) -> Reply<Session> {
        let token = body.refresh_token.clone();
        self.serve("refresh", move |state| {
            if state.revoked {
                return Err(Problem::new(Code::RefreshTokenInvalid, "over").into());
            }
            let number: usize = token.rsplit('-').next().and_then(|n| n.parse().ok()).expect("ours");
            state.refresh_tokens_used.push(token.clone());
            Ok(Self::session(number + 1, false))
        })
        .await
    }

    async fn logout(&self, _body: &Logout) -> Reply<()> {
        self.serve("logout", |state| {
            state.revoked = true;
            Ok(())
        })
        .await
    }

    async fn key_set(&self, known: Option<&str>) -> Reply<PublishedKeys> {
        let known = known.map(str::to_owned);
        self.serve("jwks", move |state| {
            let jwks = state.jwks.clone().unwrap_or(Jwks { keys: Vec::new() });
            let document = serde_json::to_vec(&jwks).expect("JSON");
            let etag = Some(jwks.keys.iter().map(|key| key.kid.as_str()).collect::<String>());
            let unchanged = known.is_some() && known == etag;
            Ok(PublishedKeys { document: (!unchanged).then_some(document), etag, fresh_for: None })
        })
        .await
    }

    async fn validate(&self, _key: &ServerKey, body: &Validate) -> Reply<Validated> {
        let token = body.token.clone();
        self.serve("validate", move |state| {
            if state.tickets_used.contains(&token) {
                return Err(Problem::new(Code::TicketUsed, "used").into());
            }
            state.tickets_used.push(token.clone());
            Ok(Validated {
                player_id: "ada".into(),
                display_name: "Ada".into(),
                kind: TokenKind::Join,
                expires_in: 60,
                ticket_id: None,
            })
        })
        .await
    }

    async fn register_server(&self, _key: &ServerKey, body: &RegisterServer) -> Reply<ServerLease> {
        let body = body.clone();
        // A repetition on the way is the same call.
        let call = self.calls.load(Ordering::SeqCst);
        self.serve("register", move |state| Ok(state.register(&body, call))).await
    }

    async fn heartbeat(&self, _key: &ServerKey, server_id: &str, body: &Heartbeat) -> Reply<HeartbeatReply> {
        let (server_id, body) = (server_id.to_owned(), body.clone());
        self.serve("heartbeat", move |state| state.heartbeat(&server_id, &body)).await
    }

    async fn deregister_server(&self, _key: &ServerKey, server_id: &str) -> Reply<()> {
        let server_id = server_id.to_owned();
        self.serve("deregister", move |state| {
            state.deregister(&server_id);
            Ok(())
        })
        .await
    }

    async fn rooms(&self, access_token: &str, _query: &RoomQuery) -> Reply<RoomPage> {
        let stale = access_token == "access-0";
        self.serve("rooms", move |state| {
            // The first token was revoked behind the client's back.
            if stale && state.revoked {
                return Err(Problem::new(Code::TokenExpired, "old").into());
            }
            Ok(RoomPage { rooms: Vec::new(), next_cursor: None })
        })
        .await
    }

    async fn room(&self, _access_token: &str, _room_id: &str) -> Reply<Room> {
        self.serve("room", |_| Err(Problem::new(Code::RoomNotFound, "none").into())).await
    }

    async fn ticket(&self, _access_token: &str, _room_id: &str, _body: &RequestTicket) -> Reply<JoinTicket> {
        self.serve("ticket", |_| Err(Problem::new(Code::RoomFull, "full").into())).await
    }

    async fn ticket_by_code(&self, _access_token: &str, _body: &JoinByCode) -> Reply<JoinTicket> {
        self.serve("ticket_by_code", |_| Err(Problem::new(Code::InviteCodeUnknown, "none").into())).await
    }

    async fn load_players(&self, _key: &ServerKey, body: &LoadPlayers) -> Reply<LoadedPlayers> {
        let body = body.clone();
        self.serve("load", move |state| state.load(&body)).await
    }

    async fn save_documents(&self, _key: &ServerKey, body: &Batch) -> Reply<SavedDocuments> {
        let bytes: usize = body.items.iter().map(|item| item.value.as_str().len()).sum();
        let body = body.parsed();
        self.serve("save", move |state| {
            if state.largest_batch.is_some_and(|largest| bytes > largest) {
                return Err(ClientError::new(Fault::Timeout, "no reply in time"));
            }
            state.save(&body)
        })
        .await
    }

    async fn release_players(&self, _key: &ServerKey, body: &ReleasePlayers) -> Reply<ReleasedPlayers> {
        let body = body.clone();
        self.serve("release", move |state| state.release(&body)).await
    }

    async fn player_conflicts(&self, _key: &ServerKey, player_id: &str) -> Reply<PlayerConflicts> {
        let player_id = player_id.to_owned();
        self.serve("conflicts", move |state| {
            Ok(PlayerConflicts { conflicts: state.open_conflicts(&player_id).cloned().collect() })
        })
        .await
    }

    async fn resolve_conflicts(&self, _key: &ServerKey, body: &ResolveConflicts) -> Reply<()> {
        let body = body.clone();
        self.serve("resolve", move |state| state.resolve(&body)).await
    }

    async fn own_documents(&self, _access_token: &str) -> Reply<PlayerDocuments> {
        self.serve("documents", |_| Ok(PlayerDocuments { player_id: "ada".into(), documents: Vec::new() }))
            .await
    }
}
