//! The calls that create rooms and find seats, over our own protocol.

use async_trait::async_trait;
use backend_protocol::rooms::{CreateRoom, MAX_WAIT_SECONDS, QuickPlay, RoomCreation};
use backend_protocol::routes;
use reqwest::Method;

use super::{Call, HttpBackend, Reply, checked_id};
use crate::api::backend::room_creation::RoomCreationBackend;

impl HttpBackend {
    /// The backend answers well before the call times out.
    fn wait_seconds(&self) -> u32 {
        let half = u32::try_from(self.config().timeout.as_secs() / 2).unwrap_or(MAX_WAIT_SECONDS);
        half.min(MAX_WAIT_SECONDS)
    }
}

// All repeatable: a request is known by its id.
#[async_trait]
impl RoomCreationBackend for HttpBackend {
    async fn create_room(&self, access_token: &str, body: &CreateRoom) -> Reply<RoomCreation> {
        let body = CreateRoom { wait_seconds: Some(self.wait_seconds()), ..body.clone() };
        self.call(Call::post(routes::ROOMS, &body)?.repeated().with(access_token)).await
    }

    async fn quick_play(&self, access_token: &str, body: &QuickPlay) -> Reply<RoomCreation> {
        let body = QuickPlay { wait_seconds: Some(self.wait_seconds()), ..body.clone() };
        self.call(Call::post(routes::QUICK_PLAY, &body)?.repeated().with(access_token)).await
    }

    async fn cancel_room_request(&self, access_token: &str, request_id: &str) -> Reply<()> {
        let path = routes::room_request(&checked_id("request_id", request_id)?);
        let call = Call { method: Method::DELETE, ..Call::get(path) };
        self.call_without_reply(call.with(access_token)).await
    }
}
