//! What FETCH answers with, apart from how it is asked for.

pub(crate) mod body;
mod envelope;
mod header;
pub(crate) mod plan;
mod section;
mod structure;
pub(crate) mod write;
