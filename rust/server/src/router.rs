//! Every route, in one place.

use std::sync::OnceLock;

use axum::Router;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, put};
use backend_protocol::{Code, routes};
use tower::Layer;
use tower::util::Either;
use tower_http::cors::Cors;

use crate::accounts::{self, email, link, passwords};
use crate::http::cors;
use crate::http::etag::{EtaggedJson, IfNoneMatch};
use crate::http::middleware::{Counted, Counts, Envelope};
use crate::http::{ApiError, ApiResult};
use crate::session::{self, refresh};
use crate::state::AppState;
use crate::{admin, health, openapi, player_store, registration, rooms, validation, world_store};

/// All of it.
pub type App = Either<Cors<Envelope>, Envelope>;

/// Routes, each with what is counted of it.
#[derive(Default)]
struct Routes {
    router: Router<AppState>,
    counted: Counted,
}

impl Routes {
    fn route(mut self, path: &'static str, handlers: MethodRouter<AppState>) -> Self {
        self.router = self.router.route(path, handlers);
        if let Err(error) = self.counted.insert(path, Counts::of(path)) {
            // The router would have taken it for two as well.
            panic!("the route {path}: {error}");
        }
        self
    }
}

pub fn app(state: AppState) -> App {
    let Routes { router, counted } = Routes::default()
        .route(routes::AUTH_ANONYMOUS, post(session::login_anonymous))
        .route(routes::AUTH_DEVICE, post(session::login_device))
        .route(routes::AUTH_PASSWORD, post(session::login_password))
        .route(routes::AUTH_REGISTER, post(session::register))
        .route(routes::AUTH_REFRESH, post(refresh::refresh))
        .route(routes::AUTH_LOGOUT, post(refresh::logout))
        .route(routes::AUTH_LOGOUT_EVERYWHERE, post(refresh::logout_everywhere))
        .route(routes::AUTH_CUSTOM, post(session::login_custom))
        .route(routes::AUTH_PASSWORD_FORGOTTEN, post(passwords::forgotten))
        .route(routes::AUTH_PASSWORD_RESET, post(passwords::reset))
        .route(routes::ACCOUNT, get(accounts::account))
        .route(routes::ACCOUNT_LINK_PASSWORD, post(link::password))
        .route(routes::ACCOUNT_LINK_DEVICE, post(link::device))
        .route(routes::ACCOUNT_LINK_CUSTOM, post(link::custom))
        .route(routes::ACCOUNT_PASSWORD, post(passwords::change))
        .route(routes::ACCOUNT_EMAIL_CODE, post(email::code))
        .route(routes::ACCOUNT_EMAIL_VERIFY, post(email::verify))
        .route(routes::ADMIN_PLAYER, get(admin::player))
        .route(routes::ADMIN_BAN, put(admin::ban).delete(admin::unban))
        .route(routes::ADMIN_SESSIONS, delete(admin::end_sessions))
        .route(routes::ADMIN_SERVER_KEYS, get(admin::server_keys::list).post(admin::server_keys::create))
        .route(routes::ADMIN_SERVER_KEY, delete(admin::server_keys::revoke))
        .route(routes::ADMIN_SERVER_KEY_ROTATE, post(admin::server_keys::rotate))
        .route(routes::JWKS, get(validation::jwks))
        .route(routes::VALIDATE, post(validation::validate))
        .route(routes::SERVERS, post(registration::register))
        .route(routes::SERVER, delete(registration::deregister))
        .route(routes::HEARTBEAT, post(registration::heartbeat))
        .route(routes::ROOMS, get(rooms::list))
        .route(routes::ROOM, get(rooms::get))
        .route(routes::TICKET, post(rooms::ticket))
        .route(routes::PLAYERS_LOAD, post(player_store::load))
        .route(routes::PLAYERS_SAVE, post(player_store::saves::save))
        .route(routes::PLAYERS_RELEASE, post(player_store::leases::release))
        .route(routes::PLAYER_CONFLICTS, get(player_store::conflicts::player_conflicts))
        .route(routes::CONFLICTS_RESOLVE, post(player_store::conflicts::resolve_conflicts))
        .route(routes::OWN_DOCUMENTS, get(player_store::own_documents))
        .route(routes::WORLD_OPEN, post(world_store::open))
        .route(routes::WORLD_CHUNKS, get(world_store::chunks))
        .route(routes::WORLD_UPLOADS, post(world_store::transfer::uploads))
        .route(routes::WORLD_DOWNLOADS, post(world_store::transfer::downloads))
        .route(routes::WORLD_OBJECT, put(world_store::transfer::put).get(world_store::transfer::get))
        .route(routes::WORLD_COMMIT, post(world_store::commit::commit))
        .route(routes::WORLD_RELEASE, post(world_store::release))
        .route(routes::HEALTHZ, get(health::healthz))
        .route(routes::READYZ, get(health::readyz))
        .route(routes::METRICS, get(health::metrics))
        .route(routes::OPENAPI, get(serve_openapi));
    let router = router
        .fallback(|| async { ApiError::new(Code::NotFound, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(Code::MethodNotAllowed, "not with this method")
        })
        .with_state(state.clone());
    let envelope = Envelope::new(state.clone(), router, counted);
    let origins = &state.config.allowed_origins;
    // Outside, so that a browser's page may read refusals as well.
    if origins.is_empty() {
        Either::Right(envelope)
    } else {
        Either::Left(cors::cors(origins).layer(envelope))
    }
}

async fn serve_openapi(if_none_match: IfNoneMatch) -> ApiResult<Response> {
    static DOCUMENT: OnceLock<EtaggedJson> = OnceLock::new();
    let document = match DOCUMENT.get() {
        Some(document) => document,
        None => {
            let made = EtaggedJson::of(openapi::document()?.into_bytes())?;
            DOCUMENT.get_or_init(|| made)
        }
    };
    Ok(document.unless_matched(&if_none_match))
}
