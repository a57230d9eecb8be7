//! Loads the addon's export plugin into the editor, so that there is no plugin to enable.

use godot::classes::{EditorExportPlugin, EditorInterface, EditorPlugin, IEditorPlugin, Script};
use godot::prelude::*;

const EXPORT_PLUGIN: &str = "res://addons/backend_client/export/export_plugin.gd";

/// Adds the export steps of the addon to the editor. Internal: the editor creates it.
#[derive(GodotClass)]
#[class(tool, init, internal, base = EditorPlugin)]
struct BackendClientEditor {
    export_plugin: Option<Gd<EditorExportPlugin>>,
    base: Base<EditorPlugin>,
}

#[godot_api]
impl IEditorPlugin for BackendClientEditor {
    fn enter_tree(&mut self) {
        let Ok(mut script) = try_load::<Script>(EXPORT_PLUGIN) else {
            tracing::warn!("{EXPORT_PLUGIN} is missing: exports are not checked for keys");
            return;
        };
        wait_for_documentation(&script);
        let plugin = script.call("new", &[]).try_to::<Gd<EditorExportPlugin>>();
        match plugin {
            Ok(plugin) => {
                self.base_mut().add_export_plugin(&plugin);
                self.export_plugin = Some(plugin);
            }
            Err(error) => tracing::warn!("exports are not checked for keys: {error}"),
        }
    }

    fn exit_tree(&mut self) {
        if let Some(plugin) = self.export_plugin.take() {
            self.base_mut().remove_export_plugin(&plugin);
        }
    }
}

/// Lets the editor's documentation generator end, which takes up to half a second after the addon was installed.
///
/// The first import after that ends with an abort (exit code 134) otherwise: the generator's deferred part runs after the
/// documentation was freed (seen in Godot 4.6). Updating the documentation of any script waits for the generator's thread.
fn wait_for_documentation(script: &Gd<Script>) {
    if let Some(mut editor) = EditorInterface::singleton().get_script_editor() {
        editor.update_docs_from_script(script);
    }
}
