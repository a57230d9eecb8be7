//! `BackendResult`.

use crate::results::result_class::result_class;

result_class! {
    /// The result of a call that returns no data.
    BackendResult(()) {}
}
