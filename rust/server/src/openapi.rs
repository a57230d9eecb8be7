//! The API as OpenAPI 3.1, made from the handlers and the wire types.

use backend_protocol::problem;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

#[derive(OpenApi)]
#[openapi(
    info(title = "backend_client", description = "Backend for Godot dedicated servers and their clients."),
    paths(
        crate::session::login_anonymous, crate::session::login_device, crate::session::login_password,
        crate::session::register, crate::session::login_custom, crate::session::refresh::refresh,
        crate::session::refresh::logout, crate::session::refresh::logout_everywhere,
        crate::accounts::account, crate::accounts::link::password, crate::accounts::link::device,
        crate::accounts::link::custom, crate::accounts::passwords::change, crate::accounts::passwords::forgotten,
        crate::accounts::passwords::reset, crate::accounts::email::code, crate::accounts::email::verify,
        crate::admin::player, crate::admin::ban, crate::admin::unban, crate::admin::end_sessions,
        crate::admin::server_keys::list, crate::admin::server_keys::create, crate::admin::server_keys::rotate, crate::admin::server_keys::revoke,
        crate::validation::jwks, crate::validation::validate,
        crate::registration::register, crate::registration::heartbeat, crate::registration::deregister,
        crate::rooms::list, crate::rooms::get, crate::rooms::ticket,
        crate::player_store::load, crate::player_store::saves::save, crate::player_store::own_documents,
        crate::player_store::leases::release,
        crate::player_store::conflicts::player_conflicts, crate::player_store::conflicts::resolve_conflicts,
        crate::world_store::open, crate::world_store::chunks, crate::world_store::release,
        crate::world_store::transfer::uploads, crate::world_store::transfer::downloads,
        crate::world_store::transfer::put, crate::world_store::transfer::get, crate::world_store::commit::commit,
        crate::health::healthz, crate::health::readyz, crate::health::metrics,
    ),
    modifiers(&Credentials, &Problems)
)]
struct Api;

struct Credentials;

impl utoipa::Modify for Credentials {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        for (name, format) in [("access_token", "JWT"), ("server_key", "gsk_…"), ("admin_key", "gak_…")] {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// What every route may answer as well, and the media type of refusals.
struct Problems;

impl utoipa::Modify for Problems {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        for item in api.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                for (status, code) in [("4XX", "Refused"), ("503", "Not now; try again")] {
                    responses.entry(status.to_owned()).or_insert_with(|| refusal(code));
                }
                for (status, response) in responses.iter_mut() {
                    if let RefOr::T(response) = response
                        && status.starts_with(['4', '5'])
                        && let Some(content) = response.content.shift_remove("application/json")
                    {
                        response.content.insert(problem::MEDIA_TYPE.to_owned(), content);
                    }
                }
            }
        }
    }
}

fn refusal(description: &str) -> RefOr<Response> {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    RefOr::T(ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, content).build())
}

/// The document, pretty-printed, ending in a newline.
pub fn document() -> anyhow::Result<String> {
    Ok(format!("{}\n", Api::openapi().to_pretty_json()?))
}
