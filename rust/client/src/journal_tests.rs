//! Journals on real files.
