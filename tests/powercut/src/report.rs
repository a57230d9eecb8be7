//! What the writer reports to the orchestrator.

use std::io::{self, Write as _};

use crate::protocol::Line;

/// Prints lines in one write, so that a kill cuts between them as rarely as can be.
pub fn report(lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    let mut text = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    text.push('\n');
    let mut output = io::stdout().lock();
    if output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_err() {
        // Nobody listens any more.
        std::process::exit(1);
    }
}
