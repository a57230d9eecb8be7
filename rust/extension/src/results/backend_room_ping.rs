//! `BackendRoomPing` and the results that hold pings.

use std::sync::Arc;
use std::time::Duration;

use backend_client::protocol::registration::ServerStatus;
use backend_client::rooms::ping::{Measurement, RoomPing};
use godot::prelude::*;

use crate::results::backend_error::Failure;
use crate::results::backend_room::BackendRoom;
use crate::results::result_class::result_class;
use crate::variant_json::gstring;

result_class! {
    /// The measurement of one game server: latency, jitter, loss and status.
    ///
    /// It has failed if the server did not respond ([code]timeout[/code]) or cannot be pinged ([code]invalid_field[/code]: no
    /// [member BackendRoom.query_port], or an address of no machine).
    BackendRoomPing(Measurement) {
        /// Median round trip in milliseconds.
        latency_ms (get_latency_ms): f64 = |measured| milliseconds(measured.latency);
        /// Mean difference between successive round trips in milliseconds.
        jitter_ms (get_jitter_ms): f64 = |measured| milliseconds(measured.jitter);
        /// Share of the pings without a response, from 0 to 1.
        loss (get_loss): f64 = |measured| measured.loss;
        /// Current number of players, as the server reports it.
        players (get_players): i64 = |measured| measured.players.into();
        /// Maximum number of players.
        max_players (get_max_players): i64 = |measured| measured.max_players.into();
        /// Status of the server, one of [enum BackendRoom.Status]. A stalled main loop is reported here before the room list shows
        /// it.
        status (get_status): i64 = |measured| match measured.status {
            ServerStatus::Ready => BackendRoom::STATUS_READY,
            ServerStatus::Draining => BackendRoom::STATUS_DRAINING,
            ServerStatus::Unhealthy => BackendRoom::STATUS_UNHEALTHY,
        };
    }
}

result_class! {
    /// The result of [method BackendRooms.ping_rooms].
    BackendRoomPings(Arc<[RoomPing]>) {}
    methods {
        /// Returns the number of measurements: one for each room of the page.
        #[func]
        fn size(&self) -> i64 {
            self.outcome.as_ref().map_or(0, |pings| pings.len() as i64)
        }

        /// Returns the measurement of the room at [param index] of the page, or [code]null[/code] if the index is out of range.
        #[func]
        fn get_ping(&self, index: i64) -> Option<Gd<BackendRoomPing>> {
            self.outcome.as_ref().ok()?.get(usize::try_from(index).ok()?).map(object)
        }

        /// Returns the id of the room at [param index] of the page, or an empty string if the index is out of range.
        #[func]
        fn get_room_id(&self, index: i64) -> GString {
            let pings = self.outcome.as_ref().map_or(&[][..], |pings| pings);
            let ping = usize::try_from(index).ok().and_then(|index| pings.get(index));
            ping.map_or_else(GString::new, |ping| gstring(&ping.room_id))
        }

        /// Returns the measurement of a room by its id, or [code]null[/code] if there is none.
        #[func]
        fn find_ping(&self, room_id: GString) -> Option<Gd<BackendRoomPing>> {
            let room_id = room_id.to_string();
            self.outcome.as_ref().ok()?.iter().find(|ping| ping.room_id == room_id).map(object)
        }

        pub fn measured(&self) -> Result<Arc<[RoomPing]>, Failure> {
            self.outcome.clone()
        }
    }
    elements: get_ping;
}

fn object(ping: &RoomPing) -> Gd<BackendRoomPing> {
    BackendRoomPing::object(ping.measured.clone().map_err(Failure::from))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
