use super::*;

#[test]
fn every_packet_reads_back_as_itself() {
    for packet in [
        Packet::Credential("eyJ.a-b_c.d".into()),
        Packet::Accepted,
        Packet::Refused(Reason::new("room_full", "The room is full.")),
    ] {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
}

#[test]
fn garbage_is_malformed() {
    let long = [MAGIC.as_slice(), &[CREDENTIAL], &vec![b'x'; MAX_TOKEN + 1]].concat();
    for garbage in [
        b"".as_slice(),
        b"BKA1",
        b"BKA2\x01token",
        b"BKA1\x00token",
        b"BKA1\x04",
        b"BKA1\x01",
        b"BKA1\x01with space",
        b"BKA1\x01\xff\xfe",
        b"BKA1\x02more",
        b"BKA1\x03{",
        b"BKA1\x03[]",
        &long,
    ] {
        assert_eq!(Packet::decode(garbage), Err(Malformed), "{garbage:?}");
    }
}

#[test]
fn the_longest_token_fits() {
    let packet = Packet::Credential("x".repeat(MAX_TOKEN));
    assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
}

#[test]
fn a_hostile_reason_is_sanitized() {
    let reason = Reason::new("a b\u{7}".repeat(100), "line\nline".repeat(1_000));
    let packet = Packet::decode(&Packet::Refused(reason).encode());
    // Longer than any packet: not even looked at.
    assert_eq!(packet, Err(Malformed));
    let reason = Reason::new("a b\u{7}".repeat(100), "line\nline".repeat(100));
    let Ok(Packet::Refused(sanitized)) = Packet::decode(&Packet::Refused(reason).encode()) else {
        panic!("is refused");
    };
    assert_eq!(sanitized.code, "ab".repeat(32));
    assert!(!sanitized.message.contains('\n') && sanitized.message.chars().count() == MAX_MESSAGE);
}
