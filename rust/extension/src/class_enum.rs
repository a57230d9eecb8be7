//! Enums of classes, such as `BackendMatchmaker.Status`.
//!
//! gdext's `#[constant]` registers numbers that belong to no enum. What registers an enum is hidden from gdext's documentation, and so may
//! change with any release of it: this is the only file that uses it, and such a release would fail to compile, not at run time.

use godot::builtin::StringName;
use godot::meta::ClassId;
use godot::register::private::constant::{ConstantKind, ExportConstant, IntegerConstant};

/// An enum of a class, as scripts see it.
pub struct ClassEnum {
    pub class: fn() -> ClassId,
    pub name: &'static str,
    pub values: &'static [(&'static str, i64)],
}

impl ClassEnum {
    /// Main thread, once the class is registered.
    pub fn register(&self) {
        let enumerators =
            self.values.iter().map(|(name, value)| IntegerConstant::new(name, *value)).collect();
        let kind = ConstantKind::Enum { name: StringName::from(self.name), enumerators };
        ExportConstant::new((self.class)(), kind).register();
    }
}

/// Declares an enum of a class: its constants for Rust, and the [`ClassEnum`] that `lib.rs` registers for scripts.
macro_rules! class_enum {
    ($Class:ident::$LIST:ident: $name:literal { $( $(#[doc = $doc:tt])+ $VALUE:ident = $value:expr; )+ }) => {
        // For the editor's help alone: not compiled, but read by gdext for its text, which it takes from a bare token (`tt`) only.
        #[godot::register::godot_api(secondary)]
        impl $Class {
            $( $(#[doc = $doc])+ #[constant] #[cfg(any())] pub const $VALUE: i64 = $value; )+
        }

        impl $Class {
            $( $(#[doc = $doc])+ pub const $VALUE: i64 = $value; )+

            #[doc = concat!("The enum `", $name, "`.")]
            pub const $LIST: $crate::class_enum::ClassEnum = $crate::class_enum::ClassEnum {
                class: <Self as godot::obj::GodotClass>::class_id,
                name: $name,
                values: &[ $( (stringify!($VALUE), Self::$VALUE) ),+ ],
            };
        }
    };
}

pub(crate) use class_enum;
