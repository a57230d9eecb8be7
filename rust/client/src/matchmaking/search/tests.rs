use super::*;

fn ticket(status: MatchmakingStatus, reason: Option<&str>) -> MatchmakingTicket {
    MatchmakingTicket {
        ticket_id: "t".into(),
        matchmaker: "duel".into(),
        status,
        reason: reason.map(str::to_owned),
        party_size: 1,
        player_ids: vec!["ada".into()],
        created_at: "2026-01-01T00:00:00Z".into(),
        expires_in_seconds: None,
        estimated_wait_seconds: None,
        r#match: None,
    }
}

#[test]
fn each_end_of_a_ticket_has_a_code_of_its_own() {
    for (status, reason, code) in [
        (MatchmakingStatus::Failed, "no_room", "no_room"),
        (MatchmakingStatus::Failed, "invalid", "no_match"),
        (MatchmakingStatus::TimedOut, "timed_out", "no_match"),
        (MatchmakingStatus::Cancelled, "rejected", "match_not_accepted"),
        (MatchmakingStatus::Cancelled, "no_answer", "match_not_accepted"),
        (MatchmakingStatus::Cancelled, "replaced", "cancelled"),
        (MatchmakingStatus::Cancelled, "cancelled", "cancelled"),
        (MatchmakingStatus::Completed, "", "bad_reply"),
    ] {
        let outcome = outcome_of(&ticket(status, Some(reason))).expect("an end");
        assert_eq!(outcome.expect_err("no match").code(), code, "{status:?}, {reason}");
    }
    for status in [
        MatchmakingStatus::Queued,
        MatchmakingStatus::Searching,
        MatchmakingStatus::RequiresAcceptance,
        MatchmakingStatus::Placing,
    ] {
        assert!(outcome_of(&ticket(status, None)).is_none(), "{status:?}");
    }
}

#[test]
fn a_long_wait_is_read_less_often_and_a_proposal_always_soon() {
    let searching = |seconds| poll_interval(MatchmakingStatus::Searching, Duration::from_secs(seconds));
    assert_eq!(searching(0), MIN_POLL_INTERVAL);
    assert_eq!(searching(60), Duration::from_secs(3));
    assert_eq!(searching(3_600), MAX_POLL_INTERVAL);
    let proposed = poll_interval(MatchmakingStatus::RequiresAcceptance, Duration::from_secs(3_600));
    assert_eq!(proposed, MIN_POLL_INTERVAL);
}
