use backend_client::platform::storage::MemoryStorage;

use super::first_free;

#[test]
fn each_instance_gets_a_profile_and_a_free_one_is_used_again() {
    let storage = MemoryStorage::default();
    let first = first_free(&storage, "b", "default");
    let second = first_free(&storage, "b", "default");
    let third = first_free(&storage, "b", "default");
    assert_eq!(
        [&first, &second, &third].map(|held| held.profile.as_str()),
        ["default", "default-2", "default-3"]
    );
    drop(second);
    assert_eq!(first_free(&storage, "b", "default").profile, "default-2");
    assert_eq!(first_free(&storage, "other", "default").profile, "default");
}
