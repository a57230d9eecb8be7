use crate::protocol::validation::TokenKind;

use super::*;

fn ada() -> Player {
    Player {
        player_id: "ada".into(),
        display_name: "Ada".into(),
        kind: TokenKind::Join,
        issued_at: 100,
        ticket_id: None,
    }
}

fn bo() -> Player {
    Player {
        player_id: "bo".into(),
        display_name: "Bo".into(),
        kind: TokenKind::Join,
        issued_at: 100,
        ticket_id: None,
    }
}

fn token() -> Packet {
    Packet::Credential("token".into())
}

/// Brings a peer up to the question who it is.
fn asked(authenticator: &mut PeerAuthenticator, peer: PeerId) -> Attempt {
    authenticator.peer_connecting(peer, None, Limits::default(), None);
    match authenticator.packet(peer, Some(token())).as_slice() {
        [Effect::Validate(asked, attempt, text)] if *asked == peer && text == "token" => *attempt,
        other => panic!("expected a validation, got {other:?}"),
    }
}

/// Brings a peer in.
fn joined(authenticator: &mut PeerAuthenticator, peer: PeerId, player: Player) {
    let attempt = asked(authenticator, peer);
    let effects = authenticator.validated(peer, attempt, Ok(player.clone()), None, None);
    assert!(effects.contains(&Effect::Accept(peer)));
    assert_eq!(authenticator.peer_connected(peer), [Effect::PlayerJoined(peer, player)]);
}

fn code_of(effects: &[Effect]) -> &str {
    match effects {
        [
            ..,
            Effect::Refuse(_, reason)
            | Effect::RefuseConnected(_, reason)
            | Effect::RefuseSilently(_, reason),
        ] => &reason.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_verified_peer_is_in_until_it_leaves() {
    let mut authenticator = PeerAuthenticator::default();
    joined(&mut authenticator, 2, ada());
    assert_eq!(authenticator.player(2), Some(&ada()));
    assert_eq!(authenticator.peer_of("ada"), Some(2));
    assert_eq!(authenticator.count(), 1);
    assert_eq!(authenticator.peer_disconnected(2), [Effect::PlayerLeft(2, ada())]);
    assert_eq!(authenticator.count(), 0);
    assert_eq!(authenticator.peer_disconnected(2), []);
}

#[test]
fn a_peer_counts_and_is_known_from_acceptance_on() {
    let mut authenticator = PeerAuthenticator::default();
    let attempt = asked(&mut authenticator, 2);
    assert_eq!(authenticator.player(2), None);
    authenticator.validated(2, attempt, Ok(ada()), None, None);
    assert_eq!((authenticator.player(2), authenticator.count()), (Some(&ada()), 1));
    // The client never completes: the engine drops it.
    assert_eq!(authenticator.peer_disconnected(2), []);
    assert_eq!(authenticator.count(), 0);
}

#[test]
fn one_packet_is_all_a_peer_gets() {
    let mut authenticator = PeerAuthenticator::default();
    asked(&mut authenticator, 2);
    assert_eq!(code_of(&authenticator.packet(2, Some(token()))), "handshake_invalid");
    assert_eq!(authenticator.packet(2, Some(token())), []);
    authenticator.peer_connecting(3, None, Limits::default(), None);
    assert_eq!(code_of(&authenticator.packet(3, None)), "handshake_invalid");
    authenticator.peer_connecting(4, None, Limits::default(), None);
    assert_eq!(code_of(&authenticator.packet(4, Some(Packet::Accepted))), "handshake_invalid");
}

#[test]
fn a_packet_after_acceptance_refuses_the_peer() {
    let mut authenticator = PeerAuthenticator::default();
    let attempt = asked(&mut authenticator, 2);
    authenticator.validated(2, attempt, Ok(ada()), None, None);
    assert_eq!(code_of(&authenticator.packet(2, Some(token()))), "handshake_invalid");
    assert_eq!(authenticator.peer_connected(2), [Effect::Disconnect(2)]);
}

#[test]
fn a_verdict_for_an_earlier_attempt_lets_nobody_in() {
    let mut authenticator = PeerAuthenticator::default();
    let earlier = asked(&mut authenticator, 2);
    authenticator.peer_disconnected(2);
    asked(&mut authenticator, 2);
    assert_eq!(authenticator.validated(2, earlier, Ok(ada()), None, None), []);
    assert_eq!(authenticator.player(2), None);
}

#[test]
fn a_silent_peer_and_a_slow_verdict_time_out() {
    let mut authenticator = PeerAuthenticator::default();
    let effects = authenticator.peer_connecting(2, None, Limits::default(), None);
    let [Effect::StartTimeout(2, attempt)] = effects.as_slice() else { panic!("no watch: {effects:?}") };
    let effects = authenticator.timed_out(2, *attempt);
    // Whoever says nothing is told nothing.
    assert!(matches!(effects.as_slice(), [Effect::RefuseSilently(2, _)]), "{effects:?}");
    assert_eq!(code_of(&effects), "auth_timeout");
    assert_eq!(authenticator.timed_out(2, *attempt), []);
    let attempt = asked(&mut authenticator, 3);
    assert_eq!(code_of(&authenticator.timed_out(3, attempt)), "auth_timeout");
    assert_eq!(authenticator.validated(3, attempt, Ok(ada()), None, None), []);
}

#[test]
fn nobody_gets_in_unverified() {
    let mut authenticator = PeerAuthenticator::default();
    assert_eq!(authenticator.peer_connected(9), [Effect::Disconnect(9)]);
    asked(&mut authenticator, 2);
    assert_eq!(authenticator.peer_connected(2), [Effect::Disconnect(2)]);
}

#[test]
fn a_full_room_refuses_the_next_player() {
    let mut authenticator = PeerAuthenticator::default();
    joined(&mut authenticator, 2, ada());
    let attempt = asked(&mut authenticator, 3);
    assert_eq!(code_of(&authenticator.validated(3, attempt, Ok(bo()), Some(1), None)), "room_full");
    assert_eq!(authenticator.peer_of("ada"), Some(2));
}

#[test]
fn the_same_player_again_takes_the_old_place_even_in_a_full_room() {
    let mut authenticator = PeerAuthenticator::default();
    joined(&mut authenticator, 2, ada());
    let attempt = asked(&mut authenticator, 3);
    let effects = authenticator.validated(3, attempt, Ok(ada()), Some(1), None);
    let [Effect::PlayerLeft(2, left), Effect::RefuseConnected(2, reason), Effect::Accept(3)] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((left, reason.code.as_str()), (&ada(), "replaced"));
    authenticator.peer_connected(3);
    assert_eq!(authenticator.peer_disconnected(2), []);
    assert_eq!(authenticator.peer_of("ada"), Some(3));
}

#[test]
fn a_closed_room_refuses_before_and_after_the_verdict() {
    let closed = || Some(Reason::new("server_draining", "The server is about to leave."));
    let mut authenticator = PeerAuthenticator::default();
    assert_eq!(
        code_of(&authenticator.peer_connecting(2, None, Limits::default(), closed())),
        "server_draining"
    );
    let attempt = asked(&mut authenticator, 3);
    assert_eq!(code_of(&authenticator.validated(3, attempt, Ok(ada()), None, closed())), "server_draining");
}

#[test]
fn strangers_cannot_pile_up() {
    let mut authenticator = PeerAuthenticator::default();
    let mut knock = |peer| authenticator.peer_connecting(peer, None, Limits::default(), None);
    for peer in 0..MAX_PENDING {
        assert!(matches!(knock(peer as PeerId + 2).as_slice(), [Effect::StartTimeout(..)]));
    }
    // The oldest silent one makes room.
    assert!(matches!(knock(100_000).as_slice(), [Effect::Disconnect(2), Effect::StartTimeout(100_000, _)]));
}

#[test]
fn nobody_is_turned_away_for_the_silent_but_for_the_busy() {
    let mut authenticator = PeerAuthenticator::default();
    for peer in 0..MAX_PENDING {
        asked(&mut authenticator, peer as PeerId + 2);
    }
    let effects = authenticator.peer_connecting(100_000, None, Limits::default(), None);
    assert_eq!(effects, [Effect::Disconnect(100_000)]);
}

#[test]
fn an_id_that_is_no_clients_is_cut_unanswered() {
    let mut authenticator = PeerAuthenticator::default();
    for peer in [1, 0, -1, -5, PeerId::MIN] {
        let closed = Some(Reason::new("server_draining", "The server is about to leave."));
        for closed in [None, closed] {
            let effects = authenticator.peer_connecting(peer, None, Limits::default(), closed);
            assert_eq!(effects, [Effect::Disconnect(peer)]);
        }
        assert_eq!(authenticator.packet(peer, Some(token())), []);
        assert_eq!(authenticator.kick(peer, Reason::new("kicked", "Bye.")), []);
        assert_eq!(authenticator.peer_connected(peer), [Effect::Disconnect(peer)]);
    }
    assert!(matches!(
        authenticator.peer_connecting(PeerId::MAX, None, Limits::default(), None).as_slice(),
        [Effect::StartTimeout(PeerId::MAX, _)]
    ));
}

#[expect(clippy::unnecessary_wraps, reason = "what the authenticator takes: an address may be unknown")]
fn from(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

/// The attempts after which the authenticator has to be trimmed.
fn trims(effects: &[Effect]) -> Vec<Attempt> {
    let trim =
        |effect: &Effect| if let Effect::ScheduleTrim(attempt) = effect { Some(*attempt) } else { None };
    effects.iter().filter_map(trim).collect()
}

#[test]
fn the_oldest_silent_peers_of_a_crowded_address_go_first() {
    let limits = Limits { per_address: Some(2), total: None };
    let mut authenticator = PeerAuthenticator::default();
    // One that is being judged, one from elsewhere: neither is counted.
    authenticator.peer_connecting(2, from(1), limits, None);
    authenticator.packet(2, Some(token()));
    authenticator.peer_connecting(3, from(2), limits, None);
    let mut due = Vec::new();
    for peer in 4..8 {
        due.extend(trims(&authenticator.peer_connecting(peer, from(1), limits, None)));
    }
    assert_eq!(due.len(), 2, "the third and the fourth are too many");
    // Somebody newer than the attempt has its time still.
    assert_eq!(authenticator.trim(due[0], limits), [Effect::Disconnect(4), Effect::Disconnect(5)]);
    assert_eq!(authenticator.trim(due[1], limits), []);
    // Who shows its token meanwhile makes room as well.
    let due = trims(&authenticator.peer_connecting(8, from(1), limits, None));
    authenticator.packet(6, Some(token()));
    assert_eq!(authenticator.trim(due[0], limits), []);
}

#[test]
fn silence_from_many_addresses_has_a_limit_too() {
    let limits = Limits { per_address: Some(4), total: Some(8) };
    let mut authenticator = PeerAuthenticator::default();
    let mut due = Vec::new();
    for peer in 2..12 {
        due.extend(trims(&authenticator.peer_connecting(peer, from(peer as u8), limits, None)));
    }
    let effects: Vec<_> = due.into_iter().flat_map(|attempt| authenticator.trim(attempt, limits)).collect();
    assert_eq!(effects, [Effect::Disconnect(2), Effect::Disconnect(3)]);
}

#[test]
fn one_ipv6_network_is_one_address() {
    let of = |text: &str| network(text.parse().expect("address"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}

#[test]
fn one_address_cannot_have_any_number_of_tokens_judged() {
    let mut authenticator = PeerAuthenticator::default();
    let mut show = |peer: PeerId, address| {
        authenticator.peer_connecting(peer, address, Limits::default(), None);
        authenticator.packet(peer, Some(token()))
    };
    for peer in 0..MAX_VALIDATING_PER_ADDRESS as PeerId {
        assert!(matches!(show(peer + 2, from(1)).as_slice(), [Effect::Validate(..)]));
    }
    assert_eq!(code_of(&show(1_000, from(1))), "rate_limited");
    assert!(matches!(show(1_001, from(2)).as_slice(), [Effect::Validate(..)]));
}

#[test]
fn a_kicked_player_is_out_at_once() {
    let mut authenticator = PeerAuthenticator::default();
    joined(&mut authenticator, 2, ada());
    let effects = authenticator.kick(2, Reason::new("kicked", "Bye."));
    assert!(
        matches!(effects.as_slice(), [Effect::PlayerLeft(2, _), Effect::RefuseConnected(2, _)]),
        "{effects:?}"
    );
    assert_eq!(authenticator.kick(2, Reason::new("kicked", "Bye.")), []);
    assert_eq!(authenticator.player(2), None);
}

#[test]
fn lost_connections_leave_nobody_behind() {
    let mut authenticator = PeerAuthenticator::default();
    joined(&mut authenticator, 2, ada());
    asked(&mut authenticator, 3);
    assert_eq!(authenticator.clear(), [Effect::PlayerLeft(2, ada())]);
    assert_eq!((authenticator.count(), authenticator.players().count()), (0, 0));
}

#[test]
fn who_was_revoked_is_out_and_nobody_else() {
    let mut authenticator = PeerAuthenticator::default();
    joined(&mut authenticator, 2, ada());
    joined(&mut authenticator, 3, bo());
    let ended = |player: &Player| (player.player_id == "ada").then(|| Reason::new("banned", "Banned."));
    let effects = authenticator.revoke(ended);
    assert_eq!(
        effects,
        [Effect::PlayerLeft(2, ada()), Effect::RefuseConnected(2, Reason::new("banned", "Banned."))]
    );
    assert_eq!(authenticator.revoke(ended), []);
    assert_eq!((authenticator.peer_of("ada"), authenticator.peer_of("bo")), (None, Some(3)));
}

#[test]
fn who_was_revoked_on_the_way_in_does_not_get_in() {
    let mut authenticator = PeerAuthenticator::default();
    let attempt = asked(&mut authenticator, 2);
    authenticator.validated(2, attempt, Ok(ada()), None, None);
    let effects = authenticator.revoke(|_| Some(Reason::new("banned", "Banned.")));
    assert_eq!(code_of(&effects), "banned");
    assert_eq!(authenticator.peer_connected(2), [Effect::Disconnect(2)]);
}
