//! The paths of the API, named once.

/// `POST`: [`crate::session::AnonymousLogin`] → [`crate::session::Session`].
pub const AUTH_ANONYMOUS: &str = "/v1/auth/anonymous";
/// `POST`: [`crate::session::DeviceLogin`] → [`crate::session::Session`].
pub const AUTH_DEVICE: &str = "/v1/auth/device";
/// `POST`: [`crate::session::PasswordLogin`] → [`crate::session::Session`].
pub const AUTH_PASSWORD: &str = "/v1/auth/password";
/// `POST`: [`crate::session::Register`] → 201 [`crate::session::Session`].
pub const AUTH_REGISTER: &str = "/v1/auth/register";
/// `POST`: [`crate::session::Refresh`] → [`crate::session::Session`].
pub const AUTH_REFRESH: &str = "/v1/auth/refresh";
/// `POST`: [`crate::session::Logout`] → 204.
pub const AUTH_LOGOUT: &str = "/v1/auth/logout";
/// `POST`: [`crate::session::Logout`] → 204. Ends all sessions of the account.
pub const AUTH_LOGOUT_EVERYWHERE: &str = "/v1/auth/logout-everywhere";
/// `POST`: [`crate::accounts::CustomLogin`] → [`crate::session::Session`].
pub const AUTH_CUSTOM: &str = "/v1/auth/custom";
/// `POST`: [`crate::accounts::ForgottenPassword`] → 202, always.
pub const AUTH_PASSWORD_FORGOTTEN: &str = "/v1/auth/password/forgotten";
/// `POST`: [`crate::accounts::ResetPassword`] → 204.
pub const AUTH_PASSWORD_RESET: &str = "/v1/auth/password/reset";
/// `GET`, access token → [`crate::accounts::AccountDetails`].
pub const ACCOUNT: &str = "/v1/account";
/// `POST`, access token: [`crate::accounts::LinkPassword`] → [`crate::accounts::AccountDetails`].
pub const ACCOUNT_LINK_PASSWORD: &str = "/v1/account/link/password";
/// `POST`, access token: [`crate::accounts::LinkDevice`] → [`crate::accounts::AccountDetails`].
pub const ACCOUNT_LINK_DEVICE: &str = "/v1/account/link/device";
/// `POST`, access token: [`crate::accounts::LinkCustom`] → [`crate::accounts::AccountDetails`].
pub const ACCOUNT_LINK_CUSTOM: &str = "/v1/account/link/custom";
/// `POST`, access token: [`crate::accounts::ChangePassword`] → 204.
pub const ACCOUNT_PASSWORD: &str = "/v1/account/password";
/// `POST`, access token, no body → 202. Sends another code to the account's address.
pub const ACCOUNT_EMAIL_CODE: &str = "/v1/account/email/code";
/// `POST`, access token: [`crate::accounts::VerifyEmail`] → [`crate::accounts::AccountDetails`].
pub const ACCOUNT_EMAIL_VERIFY: &str = "/v1/account/email/verify";
/// `GET`, admin key → [`crate::admin::AdminPlayer`].
pub const ADMIN_PLAYER: &str = "/v1/admin/players/{player_id}";
/// Admin key. `PUT`: [`crate::admin::BanPlayer`] → 204. `DELETE` → 204.
pub const ADMIN_BAN: &str = "/v1/admin/players/{player_id}/ban";
/// `DELETE`, admin key → 204. Ends all sessions of the player.
pub const ADMIN_SESSIONS: &str = "/v1/admin/players/{player_id}/sessions";
/// `GET`, admin key → [`crate::admin::AdminOverview`].
pub const ADMIN_OVERVIEW: &str = "/v1/admin/overview";
/// `GET`, admin key → [`crate::admin::AdminAllocations`].
pub const ADMIN_ALLOCATIONS: &str = "/v1/admin/allocations";
/// `GET`, admin key → [`crate::admin::AdminAllocationLog`].
pub const ADMIN_ALLOCATION_LOG: &str = "/v1/admin/allocations/{allocation_id}/log";
/// `GET`, admin key → [`crate::admin::AdminServerPlayers`].
pub const ADMIN_SERVER_PLAYERS: &str = "/v1/admin/servers/{server_id}/players";
/// Admin key. `PUT` → 204: the server drains and leaves. `DELETE` → 204, unless it has heard of it.
pub const ADMIN_SERVER_DRAIN: &str = "/v1/admin/servers/{server_id}/drain";
/// `DELETE`, admin key → 204. Ends the room: its server drains, it is not listed, and its players are disconnected.
pub const ADMIN_SERVER_ROOM: &str = "/v1/admin/servers/{server_id}/room";
/// Admin key. `GET` → [`crate::admin::KeyList`]. `POST`: [`crate::admin::CreateKey`] → 201 [`crate::admin::CreatedKey`].
pub const ADMIN_SERVER_KEYS: &str = "/v1/admin/server-keys";
/// `DELETE`, admin key → 204.
pub const ADMIN_SERVER_KEY: &str = "/v1/admin/server-keys/{key_id}";
/// `POST`, admin key: [`crate::admin::RotateKey`] → 201 [`crate::admin::CreatedKey`].
pub const ADMIN_SERVER_KEY_ROTATE: &str = "/v1/admin/server-keys/{key_id}/rotate";
/// `GET` → [`crate::validation::Jwks`] (RFC 7517).
pub const JWKS: &str = "/.well-known/jwks.json";
/// `POST`, server key: [`crate::validation::Validate`] → [`crate::validation::Validated`].
pub const VALIDATE: &str = "/v1/validate";
/// `POST`, server key: [`crate::registration::RegisterServer`] → 201 [`crate::registration::ServerLease`].
pub const SERVERS: &str = "/v1/servers";
/// `DELETE`, server key → 204, also when the server is already gone.
pub const SERVER: &str = "/v1/servers/{server_id}";
/// `POST`, server key: [`crate::registration::Heartbeat`] → [`crate::registration::HeartbeatReply`].
pub const HEARTBEAT: &str = "/v1/servers/{server_id}/heartbeat";
/// `GET`, access token or server key: [`crate::rooms::RoomQuery`] → [`crate::rooms::RoomPage`]. `POST`, access token:
/// [`crate::rooms::CreateRoom`] → [`crate::rooms::RoomCreation`].
pub const ROOMS: &str = "/v1/rooms";
/// `GET`, access token or server key: [`crate::rooms::RoomQuery`] → server-sent events with [`crate::rooms::RoomChanges`].
pub const ROOM_EVENTS: &str = "/v1/rooms/events";
/// `GET`, access token or server key → [`crate::rooms::Regions`].
pub const REGIONS: &str = "/v1/regions";
/// `GET`, access token or server key → [`crate::rooms::Room`].
pub const ROOM: &str = "/v1/rooms/{room_id}";
/// `POST`, access token: [`crate::rooms::QuickPlay`] → [`crate::rooms::RoomCreation`].
pub const QUICK_PLAY: &str = "/v1/rooms/quick-play";
/// `DELETE`, access token → 204. Gives up a request for a room, created or by quick play.
pub const ROOM_REQUEST: &str = "/v1/rooms/requests/{request_id}";
/// `POST`, access token: [`crate::rooms::JoinByCode`] → [`crate::rooms::JoinTicket`].
pub const TICKET_BY_CODE: &str = "/v1/rooms/by-code/ticket";
/// `POST`, access token: [`crate::rooms::RequestTicket`], or no body → [`crate::rooms::JoinTicket`].
pub const TICKET: &str = "/v1/rooms/{room_id}/ticket";
/// `POST`, access token: [`crate::relay::HostRoom`] → [`crate::rooms::JoinTicket`] of the host.
pub const RELAY_ROOMS: &str = "/v1/relay/rooms";
/// `POST`, access token or server key: [`crate::matchmaking::CreateMatchmakingTicket`] → 201 [`crate::matchmaking::MatchmakingTicket`].
pub const MATCHMAKING_TICKETS: &str = "/v1/matchmaking/tickets";
/// Access token or server key. `GET`, `DELETE` → [`crate::matchmaking::MatchmakingTicket`].
pub const MATCHMAKING_TICKET: &str = "/v1/matchmaking/tickets/{ticket_id}";
/// `POST`, access token: [`crate::matchmaking::JoinParty`] → [`crate::matchmaking::MatchmakingTicket`].
pub const MATCHMAKING_PARTY: &str = "/v1/matchmaking/tickets/{ticket_id}/players";
/// `POST`, access token: [`crate::matchmaking::AnswerProposal`] → [`crate::matchmaking::MatchmakingTicket`].
pub const MATCHMAKING_ANSWER: &str = "/v1/matchmaking/tickets/{ticket_id}/answer";
/// `GET`, server key → [`crate::matchmaking::PlacedMatches`].
pub const SERVER_MATCHES: &str = "/v1/servers/{server_id}/matches";
/// `POST`, server key: [`crate::player_store::LoadPlayers`] → [`crate::player_store::LoadedPlayers`].
pub const PLAYERS_LOAD: &str = "/v1/players/load";
/// `POST`, server key: [`crate::player_store::SaveDocuments`] → [`crate::player_store::SavedDocuments`].
pub const PLAYERS_SAVE: &str = "/v1/players/save";
/// `POST`, server key: [`crate::player_store::ReleasePlayers`] → 204.
pub const PLAYERS_RELEASE: &str = "/v1/players/release";
/// `GET`, server key → [`crate::player_store::PlayerConflicts`].
pub const PLAYER_CONFLICTS: &str = "/v1/players/{player_id}/conflicts";
/// `POST`, server key: [`crate::player_store::ResolveConflicts`] → 204.
pub const CONFLICTS_RESOLVE: &str = "/v1/players/conflicts/resolve";
/// `GET`, access token → [`crate::player_store::PlayerDocuments`] of the caller.
pub const OWN_DOCUMENTS: &str = "/v1/players/me/documents";
/// `POST`, server key: [`crate::world_store::OpenWorld`] → [`crate::world_store::WorldLease`].
pub const WORLD_OPEN: &str = "/v1/worlds/{world_id}/open";
/// `GET`, server key: [`crate::world_store::ChunkQuery`] → [`crate::world_store::ChunkPage`].
pub const WORLD_CHUNKS: &str = "/v1/worlds/{world_id}/chunks";
/// `POST`, server key: [`crate::world_store::RequestUploads`] → [`crate::world_store::Uploads`].
pub const WORLD_UPLOADS: &str = "/v1/worlds/{world_id}/uploads";
/// `POST`, server key: [`crate::world_store::RequestDownloads`] → [`crate::world_store::Downloads`].
pub const WORLD_DOWNLOADS: &str = "/v1/worlds/{world_id}/downloads";
/// Server key. `PUT`: an object, compressed → 204. `GET`, with `Range` if wanted (RFC 9110 §14) → the object.
pub const WORLD_OBJECT: &str = "/v1/worlds/{world_id}/objects/{hash}";
/// `POST`, server key: [`crate::world_store::CommitWorld`] → [`crate::world_store::CommittedWorld`].
pub const WORLD_COMMIT: &str = "/v1/worlds/{world_id}/commit";
/// `POST`, server key: [`crate::world_store::ReleaseWorld`] → 204.
pub const WORLD_RELEASE: &str = "/v1/worlds/{world_id}/release";
/// `GET`: 200 while the process runs.
pub const HEALTHZ: &str = "/healthz";
/// `GET`: 200 while the backend can serve, 503 while it starts, stops or has no database.
pub const READYZ: &str = "/readyz";
/// `GET`: Prometheus text format.
pub const METRICS: &str = "/metrics";
/// `GET`: this API as OpenAPI 3.1.
pub const OPENAPI: &str = "/openapi.json";

/// The routes that games call.
pub const OF_GAMES: [&str; 49] = [
    AUTH_ANONYMOUS,
    AUTH_DEVICE,
    AUTH_PASSWORD,
    AUTH_REGISTER,
    AUTH_REFRESH,
    AUTH_LOGOUT,
    AUTH_LOGOUT_EVERYWHERE,
    AUTH_CUSTOM,
    AUTH_PASSWORD_FORGOTTEN,
    AUTH_PASSWORD_RESET,
    ACCOUNT,
    ACCOUNT_LINK_PASSWORD,
    ACCOUNT_LINK_DEVICE,
    ACCOUNT_LINK_CUSTOM,
    ACCOUNT_PASSWORD,
    ACCOUNT_EMAIL_CODE,
    ACCOUNT_EMAIL_VERIFY,
    JWKS,
    VALIDATE,
    SERVERS,
    SERVER,
    HEARTBEAT,
    ROOMS,
    ROOM_EVENTS,
    REGIONS,
    ROOM,
    QUICK_PLAY,
    ROOM_REQUEST,
    TICKET_BY_CODE,
    TICKET,
    RELAY_ROOMS,
    MATCHMAKING_TICKETS,
    MATCHMAKING_TICKET,
    MATCHMAKING_PARTY,
    MATCHMAKING_ANSWER,
    SERVER_MATCHES,
    PLAYERS_LOAD,
    PLAYERS_SAVE,
    PLAYERS_RELEASE,
    PLAYER_CONFLICTS,
    CONFLICTS_RESOLVE,
    OWN_DOCUMENTS,
    WORLD_OPEN,
    WORLD_CHUNKS,
    WORLD_UPLOADS,
    WORLD_DOWNLOADS,
    WORLD_OBJECT,
    WORLD_COMMIT,
    WORLD_RELEASE,
];

/// The route of `path`, such as [`HEARTBEAT`]; `None` if games call no such path.
pub fn route_of(path: &str) -> Option<&'static str> {
    let matches = |route: &&&str| {
        let (mut parts, mut found) = (route.split('/'), path.split('/'));
        loop {
            match (parts.next(), found.next()) {
                (None, None) => return true,
                (Some(part), Some(found))
                    if part == found || (part.starts_with('{') && !found.is_empty()) => {}
                _ => return false,
            }
        }
    };
    // One that is written out comes before one with a placeholder in the same place.
    OF_GAMES.iter().filter(matches).min_by_key(|route| route.matches('{').count()).copied()
}

/// The path of one server: [`SERVER`] with its id filled in.
pub fn server(server_id: &str) -> String {
    SERVER.replace("{server_id}", server_id)
}

/// The heartbeat path of one server.
pub fn heartbeat(server_id: &str) -> String {
    HEARTBEAT.replace("{server_id}", server_id)
}

/// The path of one room.
pub fn room(room_id: &str) -> String {
    ROOM.replace("{room_id}", room_id)
}

/// The ticket path of one room.
pub fn ticket(room_id: &str) -> String {
    TICKET.replace("{room_id}", room_id)
}

/// The path of one request for a room.
pub fn room_request(request_id: &str) -> String {
    ROOM_REQUEST.replace("{request_id}", request_id)
}

/// `route`, one of the `MATCHMAKING_…` paths, for one ticket.
pub fn of_matchmaking_ticket(route: &str, ticket_id: &str) -> String {
    route.replace("{ticket_id}", ticket_id)
}

/// The matches path of one server.
pub fn server_matches(server_id: &str) -> String {
    SERVER_MATCHES.replace("{server_id}", server_id)
}

/// The conflicts path of one player.
pub fn player_conflicts(player_id: &str) -> String {
    PLAYER_CONFLICTS.replace("{player_id}", player_id)
}

/// `route`, one of the `WORLD_…` paths, for one world.
pub fn of_world(route: &str, world_id: &str) -> String {
    route.replace("{world_id}", world_id)
}

/// The path of one object of a world.
pub fn world_object(world_id: &str, hash: &str) -> String {
    of_world(WORLD_OBJECT, world_id).replace("{hash}", hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_games_has_its_route() {
        assert_eq!(route_of(&heartbeat("a-1")), Some(HEARTBEAT));
        assert_eq!(route_of(&world_object("w", "ff")), Some(WORLD_OBJECT));
        assert_eq!(route_of(ROOM_EVENTS), Some(ROOM_EVENTS));
        assert_eq!(route_of(&room("r-1")), Some(ROOM));
        assert_eq!(route_of(CONFLICTS_RESOLVE), Some(CONFLICTS_RESOLVE));
        assert_eq!(route_of("/v1/rooms/"), None);
        assert_eq!(route_of("/v1/elsewhere"), None);
    }

    #[test]
    fn no_route_of_games_is_missing() {
        let other = ["/v1/admin/", "/healthz", "/readyz", "/metrics", "/openapi.json"];
        let declared = include_str!("routes.rs").lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
            Some((name, value.strip_suffix("\";")?))
        });
        for (name, route) in declared.filter(|(_, route)| !other.iter().any(|other| route.starts_with(other)))
        {
            assert!(OF_GAMES.contains(&route), "{name} is not in OF_GAMES");
        }
    }
}
