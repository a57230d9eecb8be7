//! The pattern of every result class: a thin object over Rust data, whose fields become Variants when read.

/// Makes a `RefCounted` class over `Result<Data, Failure>` with `ok()`, `failed()`, `error` and read-only properties.
///
/// Classes written in Rust cannot inherit from each other, hence a macro. `field (getter): Type = |data| expression`
/// declares a property; it has the type's default when the call failed. Further `#[func]`s go into `methods { … }`. A list with
/// `size()` names the method that returns an element, `elements: get_room;`, so that a script can use `for`.
macro_rules! result_class {
    (
        $(#[$class_meta:meta])*
        $Class:ident($Data:ty) {
            $( $(#[$meta:meta])* $field:ident ($getter:ident): $Type:ty = |$data:ident| $value:expr; )*
        }
        $( methods { $($methods:tt)* } )?
        $( elements: $get:ident; )?
    ) => {
        $(#[$class_meta])*
        #[derive(godot::register::GodotClass)]
        #[class(no_init)]
        pub struct $Class {
            outcome: Result<$Data, $crate::results::backend_error::Failure>,
            /// The reason why the call failed, or [code]null[/code] if it succeeded.
            #[var(get = get_error, no_set)]
            error: godot::prelude::PhantomVar<Option<godot::prelude::Gd<$crate::results::backend_error::BackendError>>>,
            $( $(#[$meta])* #[var(get = $getter, no_set)] $field: godot::prelude::PhantomVar<$Type>, )*
        }

        impl $Class {
            /// The object as a script receives it.
            #[allow(dead_code, reason = "not every result comes from a request")]
            pub fn answer(outcome: Result<$Data, $crate::results::backend_error::Failure>) -> godot::prelude::Variant {
                godot::prelude::ToGodot::to_variant(&Self::object(outcome))
            }

            pub fn object(outcome: Result<$Data, $crate::results::backend_error::Failure>) -> godot::prelude::Gd<Self> {
                godot::prelude::Gd::from_object(Self {
                    outcome,
                    error: Default::default(),
                    $( $field: Default::default(), )*
                })
            }
        }

        #[godot::register::godot_api]
        impl $Class {
            /// Returns [code]true[/code] if the call succeeded.
            #[func]
            fn ok(&self) -> bool {
                self.outcome.is_ok()
            }

            /// Returns [code]true[/code] if the call failed; [member error] holds the reason.
            #[func]
            fn failed(&self) -> bool {
                self.outcome.is_err()
            }

            #[func]
            fn get_error(&self) -> Option<godot::prelude::Gd<$crate::results::backend_error::BackendError>> {
                self.outcome.as_ref().err().map(|failure| failure.clone().into_object())
            }

            $(
                #[func]
                pub fn $getter(&self) -> $Type {
                    self.outcome.as_ref().map(|$data| $value).unwrap_or_default()
                }
            )*

            $( $($methods)* )?

            $(
                /// Called by [code]for[/code], which reads the elements one by one.
                #[func]
                fn _iter_init(&self, mut state: godot::prelude::VarArray) -> bool {
                    state.set(0, &godot::prelude::ToGodot::to_variant(&0));
                    self.size() > 0
                }

                /// Called by [code]for[/code].
                #[func]
                fn _iter_next(&self, mut state: godot::prelude::VarArray) -> bool {
                    let next = state.get(0).and_then(|index| index.try_to::<i64>().ok()).unwrap_or(-1) + 1;
                    state.set(0, &godot::prelude::ToGodot::to_variant(&next));
                    (1..self.size()).contains(&next)
                }

                /// Called by [code]for[/code].
                #[func]
                fn _iter_get(&self, index: godot::prelude::Variant) -> godot::prelude::Variant {
                    let element = index.try_to::<i64>().ok().and_then(|index| self.$get(index));
                    godot::prelude::ToGodot::to_variant(&element)
                }
            )?
        }
    };
}

pub(crate) use result_class;
