//! Regions, with a place in each that answers pings.

use axum::Json;
use axum::extract::State;
use backend_protocol::Problem;
use backend_protocol::rooms::Regions;

use crate::auth::extractors::PlayerOrServer;
use crate::state::AppState;

/// Returns the regions that this backend was given, for players to measure how far they are.
#[utoipa::path(get, path = "/v1/regions", operation_id = "rooms_list_regions", tag = "rooms", security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = Regions), (status = "4XX", body = Problem)))]
pub async fn list(State(state): State<AppState>, _auth: PlayerOrServer) -> Json<Regions> {
    Json(Regions { regions: state.config.regions.clone() })
}
