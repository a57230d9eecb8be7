//! Every route, in one place.

use std::sync::OnceLock;

use axum::Router;
use axum::http::HeaderMap;
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use backend_protocol::{Code, routes};

use crate::accounts::{self, email, link, passwords};
use crate::problem::{Outcome, Refusal};
use crate::session::{self, refresh};
use crate::state::AppState;
use crate::tagged::Tagged;
use crate::{
    admin, envelope, health, openapi, player_store, registration, rooms, validation, web, world_store,
};

pub fn app(state: AppState) -> Router {
    let origins = &state.config.allowed_origins;
    let router = Router::new()
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
        .route(routes::ADMIN_SERVER_KEYS, get(admin::keys::list).post(admin::keys::create))
        .route(routes::ADMIN_SERVER_KEY, delete(admin::keys::revoke))
        .route(routes::ADMIN_SERVER_KEY_ROTATE, post(admin::keys::rotate))
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
        .route(routes::OPENAPI, get(serve_openapi))
        .fallback(|| async { Refusal::new(Code::NotFound, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(Code::MethodNotAllowed, "not with this method")
        })
        .layer(middleware::from_fn_with_state(state.clone(), envelope::wrap));
    // Outside, so that a browser's page may read refusals as well.
    let router = if origins.is_empty() { router } else { router.layer(web::cors(origins)) };
    router.with_state(state.clone())
}

async fn serve_openapi(headers: HeaderMap) -> Outcome<Response> {
    static DOCUMENT: OnceLock<Tagged> = OnceLock::new();
    let document = match DOCUMENT.get() {
        Some(document) => document,
        None => {
            let made = Tagged::of(openapi::document()?.into_bytes())?;
            DOCUMENT.get_or_init(|| made)
        }
    };
    Ok(document.unless_known(&headers))
}
