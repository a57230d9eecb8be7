use proptest::prelude::*;

use super::*;

fn parsed(chunks: &[&[u8]]) -> Result<Vec<ServerSentEvent>, EventError> {
    let (mut parser, mut events) = (EventParser::default(), Vec::new());
    for chunk in chunks {
        parser.feed(chunk, &mut events)?;
    }
    Ok(events)
}

fn event(name: &str, data: &str, id: Option<&str>) -> ServerSentEvent {
    ServerSentEvent { name: name.into(), data: data.into(), id: id.map(str::to_owned) }
}

#[test]
fn events_are_read_as_the_standard_says() {
    let text = "\u{feff}: hello\n\nevent: change\nid: a.1\ndata: {\ndata:}\n\ndata\r\n\r\nid: a.2\r\rretry: 5\n\nevent: x\n\ndata:  two\n\nhalf";
    let expected = [
        event("change", "{\n}", Some("a.1")),
        event("", "", None),
        event("", "", Some("a.2")),
        event("", " two", None),
    ];
    assert_eq!(parsed(&[text.as_bytes()]).as_deref(), Ok(&expected[..]));
}

#[test]
fn ids_that_no_header_takes_are_left_out() {
    for id in ["a b", "\u{e4}", "a\u{0}", &"x".repeat(MAX_EVENT_ID + 1)] {
        let events = parsed(&[format!("id: {id}\ndata: x\n\n").as_bytes()]).expect("events");
        assert_eq!(events, [event("", "x", None)], "{id:?}");
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_kept() {
    let mut parser = EventParser::default();
    let mut events = Vec::new();
    let part = vec![b'x'; 64 * 1024];
    let mut refused = 0;
    for _ in 0..=MAX_EVENT_BYTES / part.len() {
        refused += usize::from(parser.feed(&part, &mut events).is_err());
    }
    assert_eq!(refused, 1);
    let line = format!("data: {}\n", "x".repeat(1024));
    let lines = line.repeat(MAX_EVENT_BYTES / 1024 + 1);
    assert_eq!(parsed(&[lines.as_bytes()]), Err(EventError::TooLong));
    assert_eq!(parsed(&[b"data: \xff\n"]), Err(EventError::NotUtf8));
}

proptest! {
    #[test]
    fn where_a_stream_is_cut_does_not_matter(text in "([a-z: \r\n]|data: x\n|id: 1\r\n|\u{e4}){0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
        let bytes = text.as_bytes();
        let whole = parsed(&[bytes]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
        prop_assert_eq!(parsed(&parts), whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _read = parsed(&[&bytes]);
    }
}
