//! The adapter between the client's peer authentication and the engine's `SceneMultiplayer`.

pub mod scene_multiplayer;
