//! Texts of strangers.

use crate::limits;

/// Without control characters and the spaces around it, and no longer than [`limits::TEXT`].
pub(crate) fn clean(text: &str) -> String {
    let mut text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    if text.len() > limits::TEXT {
        text.truncate(text.floor_char_boundary(limits::TEXT));
    }
    text
}

/// A domain as A-labels in lower case; None if it is none.
pub(crate) fn domain(text: &str) -> Option<String> {
    let domain: mox_types::Domain = text.trim().trim_end_matches('.').parse().ok()?;
    Some(domain.ascii().to_owned())
}
