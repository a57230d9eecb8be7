//! Every route, in one place.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::routing::{delete, get, post};
use backend_protocol::{Code, routes};

use crate::problem::{Outcome, Refusal};
use crate::state::AppState;
use crate::{health, openapi, player_store, registration, request_id, rooms, session, validation};

pub fn app(state: AppState) -> Router {
    Router::new()
        .route(routes::AUTH_ANONYMOUS, post(session::login_anonymous))
        .route(routes::AUTH_DEVICE, post(session::login_device))
        .route(routes::AUTH_PASSWORD, post(session::login_password))
        .route(routes::AUTH_REGISTER, post(session::register))
        .route(routes::AUTH_REFRESH, post(session::refresh))
        .route(routes::AUTH_LOGOUT, post(session::logout))
        .route(routes::JWKS, get(validation::jwks))
        .route(routes::VALIDATE, post(validation::validate))
        .route(routes::SERVERS, post(registration::register))
        .route(routes::SERVER, delete(registration::deregister))
        .route(routes::HEARTBEAT, post(registration::heartbeat))
        .route(routes::ROOMS, get(rooms::list))
        .route(routes::ROOM, get(rooms::get))
        .route(routes::TICKET, post(rooms::ticket))
        .route(routes::PLAYERS_LOAD, post(player_store::load))
        .route(routes::PLAYERS_SAVE, post(player_store::save))
        .route(routes::OWN_DOCUMENTS, get(player_store::own_documents))
        .route(routes::HEALTHZ, get(health::healthz))
        .route(routes::READYZ, get(health::readyz))
        .route(routes::METRICS, get(health::metrics))
        .route(routes::OPENAPI, get(serve_openapi))
        .fallback(|| async { Refusal::new(Code::NotFound, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(Code::MethodNotAllowed, "not with this method")
        })
        .layer(middleware::from_fn(request_id::identify))
        .with_state(state)
}

async fn serve_openapi() -> Outcome<([(axum::http::HeaderName, &'static str); 1], String)> {
    Ok(([(CONTENT_TYPE, "application/json")], openapi::document()?))
}
