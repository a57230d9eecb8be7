//! Every route, in one place. Its path and method are in the attribute of the handler.

use std::sync::OnceLock;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use backend_protocol::{Code, routes};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::accounts::{self, email, link, passwords};
use crate::http::etag::{EtaggedJson, IfNoneMatch};
use crate::http::{ApiError, ApiResult, middleware};
use crate::session::{self, refresh};
use crate::state::AppState;
use crate::{
    admin, health, matchmaking, openapi, player_store, registration, relay, room_creation, rooms, validation,
    world_store,
};

fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(session::login_anonymous))
        .routes(routes!(session::login_device))
        .routes(routes!(session::login_password))
        .routes(routes!(session::register))
        .routes(routes!(refresh::refresh))
        .routes(routes!(refresh::logout))
        .routes(routes!(refresh::logout_everywhere))
        .routes(routes!(session::login_custom))
        .routes(routes!(passwords::forgotten))
        .routes(routes!(passwords::reset))
        .routes(routes!(accounts::account))
        .routes(routes!(link::password))
        .routes(routes!(link::device))
        .routes(routes!(link::custom))
        .routes(routes!(passwords::change))
        .routes(routes!(email::code))
        .routes(routes!(email::verify))
        .routes(routes!(admin::player))
        .routes(routes!(admin::ban, admin::unban))
        .routes(routes!(admin::end_sessions))
        .routes(routes!(admin::overview::overview))
        .routes(routes!(admin::allocations::list))
        .routes(routes!(admin::allocations::log))
        .routes(routes!(admin::servers::players))
        .routes(routes!(admin::servers::drain, admin::servers::cancel_drain))
        .routes(routes!(admin::servers::end_room))
        .routes(routes!(admin::server_keys::list, admin::server_keys::create))
        .routes(routes!(admin::server_keys::revoke))
        .routes(routes!(admin::server_keys::rotate))
        .routes(routes!(validation::jwks))
        .routes(routes!(validation::validate))
        .routes(routes!(registration::register))
        .routes(routes!(registration::deregister))
        .routes(routes!(registration::heartbeat))
        .routes(routes!(rooms::list::list, room_creation::create::create))
        .routes(routes!(rooms::follow::events))
        .routes(routes!(room_creation::quick_play::quick_play))
        .routes(routes!(room_creation::requests::cancel))
        .routes(routes!(rooms::regions::list))
        .routes(routes!(rooms::live::get))
        .routes(routes!(rooms::tickets::by_code))
        .routes(routes!(rooms::tickets::create))
        .routes(routes!(relay::hosting::host))
        .routes(routes!(matchmaking::create))
        .routes(routes!(matchmaking::get, matchmaking::cancel))
        .routes(routes!(matchmaking::join_party))
        .routes(routes!(matchmaking::answer))
        .routes(routes!(matchmaking::matches))
        .routes(routes!(player_store::load))
        .routes(routes!(player_store::saves::save))
        .routes(routes!(player_store::leases::release))
        .routes(routes!(player_store::conflicts::player_conflicts))
        .routes(routes!(player_store::conflicts::resolve_conflicts))
        .routes(routes!(player_store::own_documents))
        .routes(routes!(world_store::open))
        .routes(routes!(world_store::chunks))
        .routes(routes!(world_store::transfer::uploads))
        .routes(routes!(world_store::transfer::downloads))
        .routes(routes!(world_store::transfer::put, world_store::transfer::get))
        .routes(routes!(world_store::commit::commit))
        .routes(routes!(world_store::release))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The application: routes, fallbacks and middleware.
pub fn app(state: AppState) -> Router {
    let router = Router::from(api())
        .route(routes::OPENAPI, get(serve_openapi))
        .route(admin::page::PATH, get(admin::page::page))
        .route(admin::page::SCRIPT_PATH, get(admin::page::script))
        .fallback(|| async { ApiError::new(Code::NotFound, "there is no route with this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(Code::MethodNotAllowed, "this path does not support the method")
        });
    middleware::apply(router, &state).with_state(state)
}

/// The API as OpenAPI 3.1, pretty-printed, ending in a newline.
pub fn openapi_document() -> anyhow::Result<String> {
    openapi::to_json(api().into_openapi())
}

async fn serve_openapi(if_none_match: IfNoneMatch) -> ApiResult<Response> {
    static DOCUMENT: OnceLock<EtaggedJson> = OnceLock::new();
    let document = match DOCUMENT.get() {
        Some(document) => document,
        None => {
            let made = EtaggedJson::of(openapi_document()?.into_bytes())?;
            DOCUMENT.get_or_init(|| made)
        }
    };
    Ok(document.unless_matched(&if_none_match))
}
