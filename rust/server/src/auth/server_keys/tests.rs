use super::*;

#[test]
fn a_mistyped_key_is_found_by_its_checksum() {
    let key = generate("live").expect("key");
    assert!(is_server_key(&key));
    let mut wrong = key.clone().into_bytes();
    wrong[12] = if wrong[12] == b'a' { b'b' } else { b'a' };
    assert!(!is_server_key(&String::from_utf8(wrong).expect("ascii")));
    assert!(!is_server_key("gsk_"));
    assert!(!is_server_key(&key[..key.len() - 1]));
}

#[test]
fn a_key_names_its_environment() {
    assert_eq!(environment_of(&generate("staging-2").expect("key")), "staging-2");
    for bad in ["", "Live", "a_b", "x y", &"x".repeat(17)] {
        assert!(environment(bad).is_err(), "{bad:?}");
    }
}
