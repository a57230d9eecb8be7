use super::*;

fn epochs(secret: &[u8]) -> Epochs {
    Epochs { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
}

/// Late in the year 2109.
const LATEST: i64 = (1 << 42) - 1;
const NOW: i64 = 1_795_900_000_000;

#[test]
fn epochs_grow_with_time_and_stay_exact_in_json() {
    let epochs = epochs(b"one");
    let ada = Subject::Player("ada");
    for now in [NOW, LATEST - 1] {
        let (one, next) = (epochs.at(&ada, "line", now), epochs.at(&ada, "line", now + 1));
        assert!(0 < one && one < next && next < 1 << 53, "{one} {next}");
    }
}

#[test]
fn an_epoch_follows_one_that_is_ahead_of_the_clock() {
    let epochs = epochs(b"one");
    let ada = Subject::Player("ada");
    for former in
        [EARLIEST_MS << SEAL_BITS, epochs.at(&ada, "line", NOW), epochs.at(&ada, "line", NOW) | SEAL_MASK]
    {
        let next = epochs.after(&ada, "line", former);
        assert!(next > former, "{next} after {former}");
        assert!(epochs.is_sealed_for(&ada, "line", next, next >> SEAL_BITS));
    }
}

#[test]
fn an_epoch_is_known_again_and_a_guess_is_not() {
    let (mine, other) = (epochs(b"one"), epochs(b"two"));
    let (ada, bea, world) = (Subject::Player("ada"), Subject::Player("bea"), Subject::World("ada"));
    // Of a thousand epochs, one in 2,048 fits somebody else's seal by chance.
    let mut by_chance = 0;
    for at in NOW..NOW + 1_000 {
        let epoch = mine.at(&ada, "line", at);
        assert!(mine.is_sealed_for(&ada, "line", epoch, NOW));
        by_chance += usize::from(mine.is_sealed_for(&ada, "line", epoch ^ 1, NOW));
        by_chance += usize::from(mine.is_sealed_for(&ada, "other line", epoch, NOW));
        by_chance += usize::from(mine.is_sealed_for(&bea, "line", epoch, NOW));
        by_chance += usize::from(mine.is_sealed_for(&world, "line", epoch, NOW));
        by_chance += usize::from(other.is_sealed_for(&ada, "line", epoch, NOW));
    }
    assert!(by_chance < 20, "{by_chance} of 5,000");
    for guess in [1, 2, 1 << 40, i64::MAX] {
        assert!(!mine.is_sealed_for(&ada, "line", guess, NOW), "{guess}");
    }
}
