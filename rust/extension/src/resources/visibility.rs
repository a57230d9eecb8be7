//! Who finds a room, as the Inspector shows it.

use backend_client::protocol::rooms::RoomVisibility;
use godot::prelude::*;

/// The values of the property `visibility`, for the Inspector.
#[derive(GodotConvert, Var, Export, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[godot(via = i64)]
pub enum Visibility {
    #[default]
    Public = 0,
    Unlisted = 1,
    Private = 2,
}

impl From<Visibility> for RoomVisibility {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Unlisted => Self::Unlisted,
            Visibility::Private => Self::Private,
        }
    }
}

impl From<RoomVisibility> for Visibility {
    fn from(visibility: RoomVisibility) -> Self {
        match visibility {
            RoomVisibility::Public => Self::Public,
            RoomVisibility::Unlisted => Self::Unlisted,
            RoomVisibility::Private => Self::Private,
        }
    }
}
