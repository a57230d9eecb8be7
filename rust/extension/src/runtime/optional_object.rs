//! Parameters that may be left out and are objects: gdext has no default for them.

use std::fmt;

use godot::meta::conv::ByRef;
use godot::meta::shape::GodotShape;
use godot::meta::{GodotConvert, GodotImmutable};
use godot::prelude::*;

/// An object, or none. Its default in `#[opt]` is [`Self::NONE`].
pub struct OptionalObject<T: GodotClass>(Option<Gd<T>>);

impl<T: GodotClass> OptionalObject<T> {
    pub const NONE: Self = Self(None);

    /// The object, if one was passed.
    pub fn into_inner(self) -> Option<Gd<T>> {
        self.0
    }
}

impl<T: GodotClass> Clone for OptionalObject<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: GodotClass> fmt::Debug for OptionalObject<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("OptionalObject").field(&self.0).finish()
    }
}

impl<T: GodotClass> GodotConvert for OptionalObject<T> {
    type Via = Option<Gd<T>>;

    fn godot_shape() -> GodotShape {
        Self::Via::godot_shape()
    }
}

impl<T: GodotClass> ToGodot for OptionalObject<T> {
    type Pass = ByRef;

    fn to_godot(&self) -> &Self::Via {
        &self.0
    }
}

impl<T: GodotClass> FromGodot for OptionalObject<T> {
    fn try_from_godot(via: Self::Via) -> Result<Self, ConvertError> {
        Ok(Self(via))
    }
}

// SAFETY: outside of this module only `NONE` can be made, so that no default holds an object.
unsafe impl<T: GodotClass> GodotImmutable for OptionalObject<T> {}
