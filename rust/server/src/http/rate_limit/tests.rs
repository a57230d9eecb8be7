use super::*;

const LIMIT: Limit = Limit { every: Duration::from_secs(2), burst: 3 };

#[test]
fn a_burst_and_then_a_steady_rate() {
    let (limits, now) = (RateLimits::default(), Instant::now());
    let take = |at| limits.take(Counted::Player("ada".into()), LIMIT, now + Duration::from_secs(at));
    assert_eq!((take(0), take(0), take(0)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(take(0), Err(Duration::from_secs(2)));
    assert_eq!(take(1), Err(Duration::from_secs(1)));
    assert_eq!((take(2), take(2)), (Ok(()), Err(Duration::from_secs(2))));
    // A refused one does not count: waiting as told is enough.
    assert_eq!(take(4), Ok(()));
    assert_eq!((take(60), take(60), take(60)), (Ok(()), Ok(()), Ok(())));
    assert!(take(60).is_err());
    limits.give_back(&Counted::Player("ada".into()), LIMIT);
    assert_eq!(take(60), Ok(()));
}

#[test]
fn strangers_do_not_lock_the_owner_out() {
    let (limits, now) = (RateLimits::default(), Instant::now());
    let attempt = |familiar, address: [u8; 4]| {
        PasswordAttempt::begin_at(&limits, "ada", familiar, Some(address.into()), now)
    };
    let wrong = |familiar, address| attempt(familiar, address).map(|_wrong| ());
    for _ in 0..10 {
        wrong(false, [198, 51, 0, 1]).expect("ten from one address");
    }
    wrong(false, [198, 51, 0, 1]).expect_err("an eleventh");
    // A network with as many addresses as it likes: what is left of the strangers' fifty.
    let tries = (2..=255).filter(|host| wrong(false, [198, 51, 0, *host]).is_ok()).count();
    assert_eq!(tries, 43);
    // The owner in a new place may even mistype.
    wrong(false, [203, 0, 113, 1]).expect("a network that has not tried it yet");
    attempt(false, [203, 0, 113, 1]).expect("the second one is right").succeed();
    // Whoever has many networks blocks others that are new, never where the owner was before.
    for host in 0..50 {
        let _counted = wrong(false, [192, 0, host, 1]);
    }
    wrong(false, [192, 0, 200, 1]).expect_err("any stranger");
    for _ in 0..10 {
        wrong(true, [203, 0, 113, 1]).expect("where the owner was before");
    }
    wrong(true, [203, 0, 113, 1]).expect_err("ten here as well");
    attempt(true, [203, 0, 113, 2]).expect("elsewhere").succeed();
    // The owner has the password mailed.
    limits.forget_unknown_networks("ada");
    wrong(false, [192, 0, 200, 1]).expect("as if nothing had been");
}

#[test]
fn a_subscriber_with_many_networks_of_ipv6_is_one() {
    let (limits, now) = (RateLimits::default(), Instant::now());
    let wrong = |address: IpAddr| {
        PasswordAttempt::begin_at(&limits, "ada", false, Some(address), now).map(|_wrong| ())
    };
    let of = |subnet: u16| IpAddr::from([0x2001, 0xdb8, 1, subnet, 0, 0, 0, 1]);
    assert_eq!((0..200).filter(|subnet| wrong(of(*subnet)).is_ok()).count(), 53);
    wrong("2001:db8:2::1".parse().expect("address")).expect("another site");
}

#[test]
fn what_looks_like_a_key_is_none() {
    let (limits, now) = (RateLimits::default(), Instant::now());
    assert!(!limits.is_valid_key("a", now));
    limits.record_valid_key("a", now);
    assert!(limits.is_valid_key("a", now) && !limits.is_valid_key("b", now));
    assert!(!limits.is_valid_key("a", now + VALID_KEY_TTL));
    for key in 0..MAX_KEYS * 2 {
        limits.record_valid_key(&key.to_string(), now);
    }
    assert!(limits.valid_keys.lock().expect("lock").len() <= MAX_KEYS);
}

#[test]
fn the_memory_is_bounded_and_the_busiest_are_kept() {
    let (limits, now) = (RateLimits::default(), Instant::now());
    let busy = || Counted::Player("busy".into());
    for _ in 0..3 {
        limits.take(busy(), LIMIT, now).expect("burst");
    }
    for number in 0..MAX_COUNTED as u32 * 2 {
        limits.take(Counted::Requests(IpAddr::from(number.to_be_bytes())), LIMIT, now).expect("first");
    }
    assert!(limits.unused_at.lock().expect("lock").len() <= MAX_COUNTED);
    assert!(limits.take(busy(), LIMIT, now).is_err());
}
