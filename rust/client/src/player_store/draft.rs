//! A document on its way into the store: only what `save` has to know is found out on the game's thread.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, LazyLock};

use backend_protocol::player_store::document;

use super::Content;
use crate::error::ClientError;

/// A document that a game hands in, in whatever form that is quick to take.
pub trait Draft: Send + 'static {
    /// The size in bytes of JSON, if it is a document that may be saved. Called first, on the game's thread.
    fn bytes(&self) -> Result<usize, ClientError>;

    /// Whether it says the same as `known`. Called on the game's thread.
    fn says(&self, known: &Content) -> bool;

    /// The document. Called once at most, on any thread, and only after [`Self::bytes`] has succeeded: it must not fail.
    fn into_content(self) -> Content;
}

impl Draft for Content {
    fn bytes(&self) -> Result<usize, ClientError> {
        Ok(document("value", self)?)
    }

    fn says(&self, known: &Content) -> bool {
        self == known
    }

    fn into_content(self) -> Content {
        self
    }
}

type Making = Box<dyn FnOnce() -> Arc<Content> + Send>;

/// A document's content, made of its draft by the first who looks at it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Body(Arc<LazyLock<Arc<Content>, Making>>);

impl Body {
    pub fn new(draft: impl Draft) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(move || Arc::new(draft.into_content())))))
    }

    /// The content. Takes its time where it was not looked at before: not for the game's thread, nor under the lock.
    pub fn content(&self) -> &Arc<Content> {
        &self.0
    }
}

impl From<Arc<Content>> for Body {
    fn from(content: Arc<Content>) -> Self {
        let body = Self(Arc::new(LazyLock::new(Box::new(move || content))));
        // There is nothing to wait for.
        LazyLock::force(&body.0);
        body
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::from(Arc::default())
    }
}

impl Debug for Body {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(self.content(), formatter)
    }
}
