//! A parser of server-sent events (HTML Standard §9.2.6), with limits.

use backend_protocol::rooms::MAX_EVENT_BYTES;

use crate::api::backend::MAX_EVENT_ID;

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
mod tests;
