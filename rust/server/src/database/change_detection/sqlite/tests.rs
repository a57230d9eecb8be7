use super::*;

#[test]
fn what_is_not_shared_is_not_watched() {
    assert!(Watchers::of(":memory:").is_err());
    assert!(Watchers::of("/nowhere/at/all.db").is_err());
}
