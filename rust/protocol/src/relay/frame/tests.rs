use super::super::{FrameReader, MAX_FRAME, MAX_JOIN_FRAME};
use super::*;

fn data(delivery: Delivery) -> Data<'static> {
    Data { delivery, channel: 31, peer: -7, payload: b"frog" }
}

#[test]
fn messages_come_back_as_they_were_written() {
    for delivery in [Delivery::Reliable, Delivery::Unreliable, Delivery::Ordered(65_535)] {
        let mut bytes = Vec::new();
        data(delivery).write(&mut bytes);
        assert_eq!(bytes.len(), data(delivery).encoded_len());
        assert_eq!(Frame::parse(&bytes), Ok(Frame::Data(data(delivery))));
        let framed = data(delivery).with_length();
        assert_eq!(framed[..4], u32::try_from(bytes.len()).expect("short").to_be_bytes());
        assert_eq!(framed[4..], bytes);
    }
}

/// The bytes that the page of the protocol shows.
#[test]
fn frames_have_the_bytes_that_are_documented() {
    let message = Data { delivery: Delivery::Ordered(258), channel: 3, peer: 1, payload: b"hop" };
    assert_eq!(message.with_length(), b"\0\0\0\x0b\x02\x03\0\0\0\x01\x01\x02hop");
    let join = Control::Join { version: 1, room_id: "r1", ticket: "a.b.c" };
    assert_eq!(join.with_length(), b"\0\0\0\x0a\x10\x01\x02r1a.b.c");
    let joined = Control::Joined { peer: 9, player_id: "p9", display_name: "Ada" };
    assert_eq!(joined.with_length(), b"\0\0\0\x0c\x21\0\0\0\x09\x02p9\x03Ada");
}

#[test]
fn controls_come_back_as_they_were_written() {
    for control in [
        Control::Join { version: 1, room_id: "room", ticket: "a.b.c" },
        Control::Kick(2),
        Control::Leave,
        Control::Accept(true),
        Control::Accept(false),
        Control::Welcome { version: 1, peer: 0x7fff_ffff },
        Control::Joined { peer: 1, player_id: "id", display_name: "Äda" },
        Control::Left { peer: 3, reason: 2 },
        Control::Ended { reason: 3 },
    ] {
        assert_eq!(Frame::parse(&control.with_length()[4..]), Ok(Frame::Control(control)));
    }
}

#[test]
fn hostile_frames_are_refused() {
    for (bytes, error) in [
        (&b""[..], FrameError::Length),
        (b"\0", FrameError::Length),
        (b"\0\0\0\0\0", FrameError::Length),
        (b"\x02\0\0\0\0\0\0", FrameError::Length),
        (b"\0\x20\0\0\0\0", FrameError::Channel),
        (b"\0\0\x80\0\0\0", FrameError::Peer),
        (b"\x03\0\0\0\0\0", FrameError::UnknownKind),
        (b"\xff", FrameError::UnknownKind),
        (b"\x10\x01\x05abc", FrameError::Length),
        (b"\x10\x01\x01\xff", FrameError::Text),
        (b"\x11\0\0\0\0", FrameError::Peer),
        (b"\x11\x80\0\0\0", FrameError::Peer),
        (b"\x11\0\0\0\x01\0", FrameError::Length),
        (b"\x12\0", FrameError::Length),
        (b"\x13\x02", FrameError::Length),
    ] {
        assert_eq!(Frame::parse(bytes), Err(error), "{bytes:?}");
    }
    let mut long = vec![1, 0, 0, 0, 0, 0];
    long.resize(DATA_HEADER + MAX_MESSAGE + 1, 0);
    assert_eq!(Frame::parse(&long), Err(FrameError::TooLong));
}

#[test]
fn names_are_cut_between_characters() {
    let name = "ä".repeat(200);
    let bytes = Control::Joined { peer: 1, player_id: "", display_name: &name }.with_length();
    let Ok(Frame::Control(Control::Joined { display_name, .. })) = Frame::parse(&bytes[4..]) else {
        panic!("no frame");
    };
    assert_eq!(display_name, "ä".repeat(127));
}

#[test]
fn a_stream_is_read_in_whatever_pieces_it_comes() {
    let frames = [data(Delivery::Reliable).with_length(), Control::Leave.with_length()].concat();
    for size in 1..=frames.len() {
        let mut reader = FrameReader::new(MAX_FRAME);
        let mut found = Vec::new();
        for piece in frames.chunks(size) {
            reader.push(piece);
            while let Some(frame) = reader.next_frame().expect("good frames") {
                found.push(frame.to_vec());
            }
        }
        assert_eq!(found, [&frames[4..14], &[LEAVE]], "pieces of {size}");
        assert!(reader.is_empty());
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_kept_for_it() {
    let mut reader = FrameReader::new(MAX_JOIN_FRAME);
    reader.push(&u32::MAX.to_be_bytes());
    assert_eq!(reader.next_frame(), Err(FrameError::TooLong));
    reader.set_limit(MAX_FRAME);
    let mut reader = FrameReader::new(MAX_FRAME);
    reader.push(&0_u32.to_be_bytes());
    assert_eq!(reader.next_frame(), Err(FrameError::Length));
}
