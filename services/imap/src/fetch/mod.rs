//! What FETCH answers with, apart from how it is asked for.

mod binary;
pub(crate) mod body;
mod envelope;
mod header;
pub(crate) mod plan;
mod raw;
mod section;
mod structure;
mod transfer;
pub(crate) mod write;

pub(crate) use header::filter as filter_header;
pub(crate) use section::{Found, find as find_section};
