//! The Project Settings under `backend_client/`. A server key is never one of them: settings ship to players.

use backend_settings::{Default as SettingDefault, Hint, PROJECT_SETTINGS, ProjectSetting};
use godot::classes::ProjectSettings;
use godot::prelude::*;
use godot::register::info::PropertyHint;

/// Shows the settings, with their defaults, in the Project Settings dialogue.
pub fn register() {
    for setting in PROJECT_SETTINGS {
        define(setting);
    }
}

pub fn text(setting: &ProjectSetting) -> String {
    read::<GString>(setting).to_string()
}

pub fn number(setting: &ProjectSetting) -> f64 {
    let value = ProjectSettings::singleton().get_setting(setting.path);
    // Someone who types `10` into project.godot gets an integer.
    value.try_to::<f64>().or_else(|_| value.try_to::<i64>().map(|whole| whole as f64)).unwrap_or_default()
}

pub fn integer(setting: &ProjectSetting) -> i64 {
    read(setting)
}

pub fn flag(setting: &ProjectSetting) -> bool {
    read(setting)
}

fn read<T: FromGodot + Default>(setting: &ProjectSetting) -> T {
    ProjectSettings::singleton().get_setting(setting.path).try_to().unwrap_or_default()
}

fn define(setting: &ProjectSetting) {
    let name = setting.path;
    let default = match setting.default {
        SettingDefault::Text(text) => text.to_variant(),
        SettingDefault::Float(number) => number.to_variant(),
        SettingDefault::Integer(number) => number.to_variant(),
        SettingDefault::Bool(value) => value.to_variant(),
        SettingDefault::Texts => PackedStringArray::new().to_variant(),
    };
    let (hint, hint_string) = match setting.hint {
        Hint::None => (PropertyHint::NONE, ""),
        Hint::Placeholder(text) => (PropertyHint::PLACEHOLDER_TEXT, text),
        Hint::Range(range) => (PropertyHint::RANGE, range),
        Hint::Options(options) => (PropertyHint::ENUM, options),
        Hint::Suggestions(options) => (PropertyHint::ENUM_SUGGESTION, options),
    };
    let mut settings = ProjectSettings::singleton();
    if !settings.has_setting(name) {
        settings.set_setting(name, &default);
    }
    // Values equal to the initial one stay out of project.godot.
    settings.set_initial_value(name, &default);
    settings.set_as_basic(name, true);
    let info = vdict! {
        "name" => name,
        "type" => default.get_type().ord(),
        "hint" => hint.ord(),
        "hint_string" => hint_string,
    };
    settings.add_property_info(&info);
}
