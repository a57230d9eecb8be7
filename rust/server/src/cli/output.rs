//! What commands print. Whoever reads it may be gone, as after `| head`: that is no reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Prints a line that nobody has to read.
pub fn line(text: impl Display) -> anyhow::Result<()> {
    match write(&text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a secret that is shown once: if nobody reads it, it is lost.
pub fn secret(name: &str, text: impl Display) -> anyhow::Result<()> {
    write(&text).with_context(|| {
        format!("{name} was made, but could not be written to standard output: revoke it and make another")
    })
}

fn write(text: &impl Display) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()
}
