//! What anybody sends to the relay, and what a relay sends to players: by stream, in whatever pieces, and by datagram.
#![no_main]

use backend_client::protocol::relay::{Control, Data, Frame, FrameReader, MAX_CHANNELS, MAX_JOIN_FRAME, MAX_MESSAGE};
use libfuzzer_sys::fuzz_target;

fn check(frame: &[u8]) {
    let Ok(parsed) = Frame::parse(frame) else { return };
    match parsed {
        Frame::Data(data) => {
            assert!(data.channel < MAX_CHANNELS && data.payload.len() <= MAX_MESSAGE && data.peer != i32::MIN);
            let mut written = Vec::new();
            data.write(&mut written);
            assert_eq!(written, frame, "a message is written as it was read");
            assert_eq!(Data::with_length(&data)[4..], written);
        }
        Frame::Control(control) => {
            let written = Control::with_length(&control);
            assert_eq!(&written[4..], frame, "a frame is written as it was read");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    check(data);
    // The first byte chooses the pieces.
    let Some((size, stream)) = data.split_first() else { return };
    let mut reader = FrameReader::new(MAX_JOIN_FRAME);
    for piece in stream.chunks(usize::from(*size).max(1)) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    assert!(!frame.is_empty() && frame.len() <= MAX_JOIN_FRAME);
                    check(frame);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
