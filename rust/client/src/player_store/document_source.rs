//! A document on its way into the store: only what `save` has to know is found out on the game's thread.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use backend_protocol::player_store::document;

use super::equality::is_identical;
use super::{Content, RawJson};
use crate::error::ClientError;

/// A document that a game hands in, in whatever form that is quick to take.
pub trait DocumentSource: Send + Sync + 'static {
    /// The size in bytes of JSON, if it is a document that may be saved. Called first, on the game's thread: where it fails,
    /// nothing else is called.
    fn bytes(&self) -> Result<usize, ClientError>;

    /// Whether it says the same as `known`. Called on the game's thread.
    fn is_same_as(&self, known: &Content) -> bool;

    /// The same of an earlier source, if that can be told without looking at the contents. Called on the game's thread.
    fn is_same_source(&self, earlier: &Self) -> Option<bool>;

    /// The document as JSON. Called once at most, on any thread.
    fn text(&self) -> String;

    /// The document. Called once at most, on any thread.
    fn content(&self) -> Content;
}

impl DocumentSource for Content {
    fn bytes(&self) -> Result<usize, ClientError> {
        Ok(document("value", self)?)
    }

    fn is_same_as(&self, known: &Content) -> bool {
        is_identical(self, known)
    }

    fn is_same_source(&self, earlier: &Self) -> Option<bool> {
        Some(is_identical(self, earlier))
    }

    fn text(&self) -> String {
        RawJson::from(self).as_str().to_owned()
    }

    fn content(&self) -> Content {
        self.clone()
    }
}

/// A document in the store, in the form it came in; others are made by the first who asks for them. Cheap to clone.
#[derive(Clone)]
pub(super) struct DocumentBody(Arc<dyn Source>);

/// Both take their time where they were not asked for before: not for the game's thread, nor under the lock.
trait Source: Any + Send + Sync {
    fn text(&self) -> &RawJson;
    fn content(&self) -> &Arc<Content>;
}

/// Handed in by the game.
struct Saved<D> {
    source: D,
    text: OnceLock<RawJson>,
    content: OnceLock<Arc<Content>>,
}

/// Read by somebody.
struct Loaded {
    content: Arc<Content>,
    text: OnceLock<RawJson>,
}

/// Found in a journal.
struct Found {
    text: RawJson,
    content: OnceLock<Arc<Content>>,
}

impl DocumentBody {
    pub fn new(source: impl DocumentSource) -> Self {
        Self(Arc::new(Saved { source, text: OnceLock::new(), content: OnceLock::new() }))
    }

    /// What is kept in the journal and sent.
    pub fn text(&self) -> &RawJson {
        self.0.text()
    }

    /// What a game reads.
    pub fn content(&self) -> &Arc<Content> {
        self.0.content()
    }

    /// Whether `given` has the same content.
    pub fn is_same_as_source<D: DocumentSource>(&self, given: &D) -> bool {
        let source: &dyn Any = &*self.0;
        let earlier = source.downcast_ref::<Saved<D>>();
        let told = earlier.and_then(|earlier| given.is_same_source(&earlier.source));
        told.unwrap_or_else(|| given.is_same_as(self.content()))
    }
}

impl<D: DocumentSource> Source for Saved<D> {
    fn text(&self) -> &RawJson {
        self.text.get_or_init(|| {
            RawJson::trusted(self.source.text()).unwrap_or_else(|_| RawJson::from(&**self.content()))
        })
    }

    fn content(&self) -> &Arc<Content> {
        self.content.get_or_init(|| Arc::new(self.source.content()))
    }
}

impl Source for Loaded {
    fn text(&self) -> &RawJson {
        self.text.get_or_init(|| RawJson::from(&*self.content))
    }

    fn content(&self) -> &Arc<Content> {
        &self.content
    }
}

impl Source for Found {
    fn text(&self) -> &RawJson {
        &self.text
    }

    fn content(&self) -> &Arc<Content> {
        self.content.get_or_init(|| Arc::new(self.text.content()))
    }
}

impl From<Arc<Content>> for DocumentBody {
    fn from(content: Arc<Content>) -> Self {
        Self(Arc::new(Loaded { content, text: OnceLock::new() }))
    }
}

impl From<RawJson> for DocumentBody {
    fn from(text: RawJson) -> Self {
        Self(Arc::new(Found { text, content: OnceLock::new() }))
    }
}

impl Default for DocumentBody {
    fn default() -> Self {
        Self::from(Arc::default())
    }
}
