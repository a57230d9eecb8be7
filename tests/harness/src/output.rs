//! What the programs here print. Whoever reads it may be gone, as after `| head`: their results are in files and in the exit
//! code, so that they go on, where the standard library's macros would panic.

use std::fmt::Arguments;
use std::io::Write as _;

/// Prints a line: for the macros that take the place of the standard library's.
pub fn line(text: Arguments<'_>) {
    let _nobody_reads_it = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line to standard error.
pub fn error_line(text: Arguments<'_>) {
    let _nobody_reads_it = writeln!(std::io::stderr().lock(), "{text}");
}

/// In the place of the standard library's macro of this name.
#[macro_export]
macro_rules! print_line {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// In the place of the standard library's macro of this name.
#[macro_export]
macro_rules! print_error_line {
    ($($text:tt)*) => { $crate::output::error_line(format_args!($($text)*)) };
}
