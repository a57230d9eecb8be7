//! What commands print. Whoever reads it may be gone, as after `| head`: the command then ends as by Ctrl-C, with everything
//! it started, where the standard library's macros would panic.

use std::fmt::Arguments;
use std::io::{self, Write};

use crate::interrupt;

/// In the place of the standard library's macro of this name.
macro_rules! println {
    () => { $crate::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// In the place of the standard library's macro of this name.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::error_line(format_args!($($text)*)) };
}

/// Prints a line.
pub fn line(text: Arguments<'_>) {
    written(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints a line to standard error.
pub fn error_line(text: Arguments<'_>) {
    written(writeln!(io::stderr().lock(), "{text}"));
}

fn written(outcome: io::Result<()>) {
    if outcome.is_err() {
        interrupt::interrupted();
    }
}
