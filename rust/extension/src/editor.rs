//! What runs inside the editor.

mod editor_plugin;
