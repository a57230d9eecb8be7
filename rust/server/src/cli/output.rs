//! Output of the commands. The reader may be gone, as after `| head`, which is not an error.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Prints a line. A closed standard output is ignored.
pub fn line(text: impl Display) -> anyhow::Result<()> {
    match write(&text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a secret that is shown once. Fails if standard output is closed: the secret would be lost.
pub fn secret(name: &str, text: impl Display) -> anyhow::Result<()> {
    write(&text).with_context(|| {
        format!(
            "{name} was created, but could not be written to standard output: revoke it and create another"
        )
    })
}

fn write(text: &impl Display) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()
}
