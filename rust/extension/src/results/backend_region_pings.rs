//! `BackendRegionPings`: how far the regions are.

use std::sync::Arc;

use backend_client::rooms::regions::{RegionPing, nearest};
use godot::prelude::*;

use crate::results::backend_error::Failure;
use crate::results::backend_room_ping::BackendRoomPing;
use crate::results::result_class::result_class;
use crate::variant_json::gstring;

result_class! {
    /// The result of [method BackendRooms.ping_regions].
    ///
    /// It has no regions if the operator of the backend has configured none.
    BackendRegionPings(Arc<[RegionPing]>) {
        /// Region with the lowest latency. Empty if none responds.
        nearest_region (get_nearest_region): GString = |pings| gstring(nearest(pings).unwrap_or_default());
    }
    methods {
        /// Returns the number of regions.
        #[func]
        fn size(&self) -> i64 {
            self.outcome.as_ref().map_or(0, |pings| pings.len() as i64)
        }

        /// Returns the region at [param index], or an empty string if the index is out of range.
        #[func]
        fn get_region(&self, index: i64) -> GString {
            self.at(index).map_or_else(GString::new, |ping| gstring(&ping.region))
        }

        /// Returns the measurement of the region at [param index], or [code]null[/code] if the index is out of range.
        #[func]
        fn get_ping(&self, index: i64) -> Option<Gd<BackendRoomPing>> {
            self.at(index).map(|ping| BackendRoomPing::object(ping.measured.clone().map_err(Failure::from)))
        }

        /// Returns the latencies of the regions that respond, in milliseconds, in the form of
        /// [member BackendMatchOptions.latencies].
        #[func]
        fn get_latencies(&self) -> VarDictionary {
            let mut latencies = VarDictionary::new();
            for ping in self.outcome.iter().flat_map(|pings| pings.iter()) {
                if let Ok(measured) = &ping.measured {
                    let milliseconds = measured.latency.as_millis().min(100_000) as i64;
                    latencies.set(&gstring(&ping.region), milliseconds);
                }
            }
            latencies
        }

        fn at(&self, index: i64) -> Option<&RegionPing> {
            self.outcome.as_ref().ok()?.get(usize::try_from(index).ok()?)
        }
    }
    elements: get_ping;
}
