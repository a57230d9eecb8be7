use super::*;

#[test]
fn connections_leave_files_for_the_rest() {
    assert_eq!(effective_limit(10_000, None), 10_000);
    assert_eq!(effective_limit(10_000, Some(1 << 20)), 10_000);
    assert_eq!(effective_limit(10_000, Some(1024)), 768);
    assert_eq!(effective_limit(100, Some(1024)), 100);
    assert_eq!(effective_limit(10_000, Some(256)), 160);
    assert_eq!(effective_limit(10_000, Some(64)), 1);
}
