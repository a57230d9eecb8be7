//! What a peer sends before it is let in, and what a server answers.
#![no_main]

use backend_client::peer_auth::protocol::{MAX_PACKET, Packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(packet) = Packet::decode(data) else { return };
    assert!(data.len() <= MAX_PACKET);
    // What was understood once is understood again, and as the same.
    let again = Packet::decode(&packet.encode());
    assert!(again.is_ok_and(|again| again == packet));
});
