use super::*;

#[test]
fn strangers_never_use_up_what_this_machine_gets() {
    let mut limit = RateLimit::new();
    let now = Duration::from_secs(1);
    let mut answered = 0;
    for number in 0..20_000_u32 {
        let stranger = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        if limit.allows(stranger, now) {
            limit.count(stranger, 1);
            answered += 1;
        }
    }
    assert_eq!(answered, OVERALL.burst);
    for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let local: IpAddr = local.parse().expect("an address");
        assert!(limit.allows(local, now), "{local}");
        // It is an address like any other, for itself.
        limit.count(local, PER_ADDRESS.burst as usize);
        assert!(!limit.allows(local, now), "{local}");
        limit = RateLimit { by_address: RateLimit::new().by_address, ..limit };
    }
}
