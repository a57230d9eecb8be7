//! The command line and the environment, which override other settings.

use std::cell::OnceCell;

use godot::classes::Os;
use godot::obj::Singleton;

thread_local! {
    // Used on the main thread only. Arguments never change while the process runs.
    static ARGUMENTS: OnceCell<Vec<String>> = const { OnceCell::new() };
}

/// The value of `--name=value`; the last one counts.
pub fn argument(name: &str) -> Option<String> {
    with_arguments(|arguments| value_of(arguments, name))
}

pub(super) fn has_flag(name: &str) -> bool {
    with_arguments(|arguments| arguments.iter().any(|argument| argument == name))
}

fn with_arguments<T>(read: impl FnOnce(&[String]) -> T) -> T {
    ARGUMENTS.with(|arguments| {
        read(arguments.get_or_init(|| {
            let os = Os::singleton();
            // Arguments after `--` come last, so that they win.
            let plain = os.get_cmdline_args().to_vec();
            plain
                .into_iter()
                .chain(os.get_cmdline_user_args().to_vec())
                .map(|text| text.to_string())
                .collect()
        }))
    })
}

pub(super) fn override_for(name: &str, variable: &str) -> Option<String> {
    argument(name).or_else(|| environment(variable))
}

/// A variable that is set and not empty. Through the engine, so that `OS.set_environment` counts.
pub(super) fn environment(variable: &str) -> Option<String> {
    let value = Os::singleton().get_environment(variable).to_string();
    (!value.trim().is_empty()).then_some(value)
}

fn value_of(arguments: &[String], name: &str) -> Option<String> {
    let value = |argument: &String| argument.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    let found = if name.is_empty() { None } else { arguments.iter().rev().find_map(value) };
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
