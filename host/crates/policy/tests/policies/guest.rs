//! See [`cache_registry_guests`].

pub(crate) use cache_registry_guests::{
    Answer, component, encode, filter, filter_and_rewriter, filter_answering, rewriter_answering,
};
