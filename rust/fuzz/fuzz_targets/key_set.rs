//! A key set from outside: nothing unnamed, nothing too much, and nothing that was not allowed.
#![no_main]

use backend_token::{Algorithm, KeySet, MAX_KID_BYTES, MAX_KEYS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for allowed in [Algorithm::ALL, &[Algorithm::EdDSA]] {
        let Ok(set) = KeySet::from_json("us", data, allowed) else { continue };
        assert!(set.len() <= MAX_KEYS);
        for name in set.kids() {
            assert!((1..=MAX_KID_BYTES).contains(&name.len()));
            let key = set.get(name).expect("named");
            assert!(allowed.contains(&key.algorithm()));
        }
        assert!(set.with_kids(&[]).is_empty());
    }
});
