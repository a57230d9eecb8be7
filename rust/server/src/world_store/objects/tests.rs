use super::*;
use crate::digest::sha256;

#[test]
fn an_object_is_what_its_name_says_and_no_bomb() {
    let raw = b"terrain ".repeat(1000);
    let stored = zstd::bulk::compress(&raw, 3).expect("compresses");
    assert!(is_object(&stored, &sha256(&raw)));
    assert!(!is_object(&stored, &sha256(b"other")));
    assert!(!is_object(&stored[..stored.len() - 1], &sha256(&raw)), "truncated");
    assert!(!is_object(&raw, &sha256(&raw)), "not compressed");
    let bomb = zstd::bulk::compress(&vec![0; MAX_CHUNK_BYTES + 1], 3).expect("compresses");
    assert!(!is_object(&bomb, &sha256(&vec![0; MAX_CHUNK_BYTES + 1])));
    assert!(is_object(&zstd::bulk::compress(b"", 3).expect("compresses"), &sha256(b"")));
}

#[test]
fn worlds_lie_beside_the_database() {
    assert_eq!(beside("/var/lib/game/backend.db"), "/var/lib/game/worlds");
    assert_eq!(beside("backend.db"), "worlds");
    assert_eq!(beside("postgres://host/name"), "worlds");
}
