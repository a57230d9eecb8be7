//! A parser of server-sent events (HTML Standard §9.2.6), with limits.

use backend_protocol::rooms::MAX_EVENT_BYTES;

use crate::api::room_lists::MAX_EVENT_ID;

/// An event as it came. Without data it only moves the id on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// What the event is; empty: not said.
    pub name: String,
    /// The lines of data, joined by line feeds.
    pub data: String,
    /// The id, if the event has one.
    pub id: Option<String>,
}

/// Why a stream is not read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// An event, or a line of one, is longer than [`MAX_EVENT_BYTES`].
    #[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    /// A line is not UTF-8.
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// What of a stream has come and is no whole event yet.
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    has_begun: bool,
    event: ServerSentEvent,
    has_fields: bool,
    has_data: bool,
}

impl EventParser {
    /// Reads on, and appends the events that are complete to `events`.
    pub fn feed(&mut self, chunk: &[u8], events: &mut Vec<ServerSentEvent>) -> Result<(), EventError> {
        let mut rest = chunk;
        if self.after_return && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_return = false;
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&rest[..end])?;
            let is_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if is_return {
                self.after_return = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, events)?;
        }
        self.extend_line(rest)
    }

    fn extend_line(&mut self, part: &[u8]) -> Result<(), EventError> {
        if self.line.len() + part.len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], events: &mut Vec<ServerSentEvent>) -> Result<(), EventError> {
        let mut line = std::str::from_utf8(line).map_err(|_| EventError::NotUtf8)?;
        if !self.has_begun {
            self.has_begun = true;
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_fields) {
                events.push(event);
            }
            self.has_data = false;
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.event.data.len() + value.len() + 1 > MAX_EVENT_BYTES {
                    return Err(EventError::TooLong);
                }
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                (self.has_data, self.has_fields) = (true, true);
            }
            "event" => value.clone_into(&mut self.event.name),
            // It will be sent back as a header. Another one cannot be gone on from.
            "id" if value.len() <= MAX_EVENT_ID && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                (self.event.id, self.has_fields) = (Some(value.to_owned()), true);
            }
            // Comments, `retry`, and what is not known.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
}
