use super::*;

fn ticket(id: &str, expires: u64) -> Claims {
    Claims {
        iss: String::new(),
        sub: "p".into(),
        aud: String::new(),
        exp: expires,
        iat: expires - 60,
        jti: id.into(),
        name: String::new(),
        sid: None,
    }
}

#[test]
fn a_used_ticket_is_remembered_for_as_long_as_it_could_be_shown() {
    let room = Room::new("r".into(), "host".into(), 2);
    let now = unix_seconds();
    room.use_ticket(&ticket("good", now + 60)).expect("new");
    for number in 1..MAX_USED_TICKETS {
        room.use_ticket(&ticket(&number.to_string(), now - FORGET_AFTER_SECONDS - 1)).expect("new");
    }
    room.use_ticket(&ticket("another", now + 60)).expect("new");
    assert_eq!(room.use_ticket(&ticket("good", now + 60)), Err(CloseReason::TicketUsed));
    assert_eq!(room.state().used_tickets.len(), 2, "the others have expired long ago");
    let (players, reported) = room.report(usize::MAX);
    assert_eq!((players, reported.len()), (0, MAX_USED_TICKETS + 1), "each is reported once");
    assert_eq!(room.report(usize::MAX).1.len(), 0);
}

#[test]
fn revocations_that_concern_nobody_any_more_are_forgotten() {
    let room = Room::new("r".into(), "host".into(), 2);
    let now = unix_seconds();
    let revoked = |before| Revocation {
        player_id: "p".into(),
        reason: backend_protocol::registration::RevocationReason::Banned,
        before,
    };
    room.revoke(vec![revoked(now - FORGET_AFTER_SECONDS - 1), revoked(now)]);
    room.revoke(vec![revoked(now)]);
    assert_eq!(room.state().revoked.len(), 1);
    assert!(is_revoked(&room.state().revoked, "p", now));
    assert!(!is_revoked(&room.state().revoked, "p", now + 1), "a ticket of a later login");
    assert!(!is_revoked(&room.state().revoked, "q", now));
}
