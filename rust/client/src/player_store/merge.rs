//! Two states of one document becoming one.

use serde_json::Value;

use super::Content;

/// What becomes of a save that came too late. "Ours" is what this server has, "theirs" what the other one saved.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// Ours stays; theirs is dropped.
    Ours,
    /// Theirs replaces ours.
    Theirs,
    /// Theirs is applied to ours as a merge patch (RFC 7396).
    MergePatch,
    /// The game has made this of both.
    Value(Content),
}

/// The member of an object that stands for one value of Godot, such as a `Vector3`.
pub const GODOT_TYPE: &str = "$godot";

/// `target` changed by `patch` (RFC 7396 §2). An object that stands for one value of Godot is replaced as a whole.
pub fn merge_patch(target: &Content, patch: &Content) -> Content {
    let mut merged = target.clone();
    for (name, change) in patch {
        match change {
            Value::Null => {
                merged.remove(name);
            }
            Value::Object(change) if !change.contains_key(GODOT_TYPE) => {
                let before = merged.get(name).and_then(Value::as_object);
                let before =
                    before.filter(|before| !before.contains_key(GODOT_TYPE)).cloned().unwrap_or_default();
                merged.insert(name.clone(), merge_patch(&before, change).into());
            }
            change => {
                merged.insert(name.clone(), change.clone());
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_rfc_7396_appendix_a_that_are_about_objects() {
        for (target, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            becomes(&target, &patch, &merged);
        }
    }

    #[test]
    fn a_value_of_godot_is_replaced_as_a_whole() {
        let vector = || json!({"$godot": "Vector2", "value": [1.0, 2.0]});
        for before in [json!({"x": 1}), json!({"$godot": "Color", "value": [0.0, 0.0, 0.0, 1.0]}), json!(3)] {
            becomes(&json!({"at": before}), &json!({"at": vector()}), &json!({"at": vector()}));
        }
        becomes(&json!({"at": vector()}), &json!({"at": {"x": 1}}), &json!({"at": {"x": 1}}));
    }

    fn becomes(target: &Value, patch: &Value, merged: &Value) {
        let object = |value: &Value| value.as_object().expect("object").clone();
        assert_eq!(merge_patch(&object(target), &object(patch)), object(merged), "{target} + {patch}");
    }
}
