//! End-to-end tests: the built backend and real Godot processes, with real sockets and signals. They are in `tests/`, one file
//! per feature, under the same words as in the other layers.
