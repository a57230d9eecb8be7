//! The command line and the environment, which override other settings.

use std::cell::OnceCell;

use backend_settings::Override;
use godot::classes::Os;
use godot::obj::Singleton;

thread_local! {
    // Used on the main thread only. Arguments never change while the process runs.
    static ARGUMENTS: OnceCell<Vec<String>> = const { OnceCell::new() };
}

/// The value of `--name=value`; the last one counts.
pub(super) fn argument(name: &str) -> Option<String> {
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

/// The value of the argument, else of the environment variable, of a setting.
pub fn override_for(setting: &Override) -> Option<String> {
    setting.argument.and_then(argument).or_else(|| setting.environment.and_then(environment))
}

/// A variable that is set and not empty. Through the engine, so that `OS.set_environment` counts.
pub(super) fn environment(variable: &str) -> Option<String> {
    let value = Os::singleton().get_environment(variable).to_string();
    (!value.trim().is_empty()).then_some(value)
}

fn value_of(arguments: &[String], name: &str) -> Option<String> {
    let value = |argument: &String| argument.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    arguments.iter().rev().find_map(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
