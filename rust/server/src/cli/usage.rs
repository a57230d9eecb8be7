//! Errors of the command line: one line on standard error that names the option, its value and what to do. The exit code is 2
//! for an invalid option and 1 for every other error.

use std::process::ExitCode;

use backend_server::config::redact_secrets;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

/// Exit code for an invalid option.
const USAGE: u8 = 2;

/// The command line and the environment, or the exit code after an explanation.
pub fn parse<C: Parser + CommandFactory>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|mut error| {
        let mut command = C::command();
        // Only then its arguments can be shown.
        command.build();
        if let Some(line) = explain(&command, &error) {
            print_error(&line);
            return ExitCode::from(USAGE);
        }
        redact(&mut error);
        // Err: standard error is closed.
        let _closed = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
    })
}

/// clap repeats what it did not expect, which may be a URL with a password in the wrong place.
fn redact(error: &mut clap::Error) {
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let shown = redact_secrets(text);
            error.insert(kind, ContextValue::String(shown));
        }
    }
}

/// The exit code for what `run` returned, after an explanation.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    print_error(&format!("{error:#}"));
    if error.is::<backend_server::config::InvalidSetting>() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

fn print_error(line: &str) {
    use std::io::Write;
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    // Err: standard error is closed; the exit code shows it still.
    let _closed = writeln!(std::io::stderr(), "backend-server: {line}");
}

/// A value that its option does not take. clap's own text repeats the value, which may hold a password, and does not name the
/// environment variable.
fn explain(command: &Command, error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg)?;
    let value = redact_secrets(text(ContextKind::InvalidValue).unwrap_or_default());
    let option = argument.split(' ').next().unwrap_or(argument);
    let variable = variable_of(command, argument);
    let or_variable = variable.as_ref().map(|name| format!(" (or {name})")).unwrap_or_default();
    let rule = match (error.get(ContextKind::ValidValue), std::error::Error::source(error)) {
        (Some(ContextValue::Strings(values)), _) => format!("must be one of {}", values.join(", ")),
        (_, Some(source)) => source.to_string(),
        _ => "is not a value for it".to_owned(),
    };
    let leave_out = if value.is_empty() { "; leave it out for the default" } else { "" };
    Some(format!("{option}{or_variable} {value:?}: {rule}{leave_out}"))
}

fn variable_of(command: &Command, argument: &str) -> Option<String> {
    let own = command.get_arguments().find(|known| known.to_string() == argument);
    match own.and_then(clap::Arg::get_env) {
        Some(name) => Some(name.to_string_lossy().into_owned()),
        None => command.get_subcommands().find_map(|sub| variable_of(sub, argument)),
    }
}
