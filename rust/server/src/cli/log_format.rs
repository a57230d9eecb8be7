//! Log lines with the id of their request. A span per request would do the same, and cost more than most replies.

use std::fmt;

use backend_server::current_request_id;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Lines of `F`, with the id of the request being handled in front, or as the first member of a JSON object.
pub struct WithRequestId<F> {
    pub lines: F,
    pub json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithRequestId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let id = current_request_id();
        if id.is_empty() {
            return self.lines.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        // The id is one of `limits::identifier`: it needs no escapes.
        match line.strip_prefix('{') {
            Some(members) if self.json => write!(writer, "{{\"request_id\":\"{id}\",{members}"),
            _ => write!(writer, "request_id={id} {line}"),
        }
    }
}
