//! PRECIS (RFC 8264, RFC 8265): one form of each name and password, however a keyboard composed its characters.

use precis_core::profile::PrecisFastInvocation;
use precis_profiles::{OpaqueString, UsernameCasePreserved};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Longest name, in octets: an address is at most 64 + 1 + 255 (RFC 5321 §4.5.3.1).
pub(crate) const USERNAME_MAX: usize = 320;
/// Longest password, in octets. Nobody types more; hashing is never the work of a stranger's megabytes.
pub(crate) const PASSWORD_MAX: usize = 1024;

/// Why a text is no name or no password. It doesn't repeat the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// RFC 8265 asks for at least one character.
    #[error("it is empty")]
    Empty,
    /// Longer than is accepted.
    #[error("it is longer than {0} octets")]
    TooLong(usize),
    /// RFC 8264 has no such character in this kind of text.
    #[error("it has a character that is not allowed, such as a control character")]
    Character,
}

/// A password as it is hashed: the OpaqueString profile (RFC 8265 §4.2). Other spaces become U+0020, then NFC.
///
/// # Errors
/// If it is empty, too long, or has control characters or unassigned ones.
pub fn prepare_password(password: &str) -> Result<Zeroizing<String>, PrepareError> {
    bounded(password, PASSWORD_MAX)?;
    // Most passwords: nothing to map, and the tables are slow.
    if password.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(Zeroizing::new(password.into()));
    }
    OpaqueString::enforce(password)
        .map(|p| Zeroizing::new(p.into_owned()))
        .map_err(|_| PrepareError::Character)
}

/// A name to look credentials up by: the UsernameCasePreserved profile (RFC 8265 §3.4). Case is left alone, since
/// whether it matters is a setting of the domain.
///
/// An address whose quoted localpart has characters that no identifier has, such as spaces, is only brought to NFC.
///
/// # Errors
/// If it is empty, too long, or has control characters.
pub fn prepare_username(name: &str) -> Result<String, PrepareError> {
    bounded(name, USERNAME_MAX)?;
    if name.chars().any(char::is_control) {
        return Err(PrepareError::Character);
    }
    if name.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(name.into());
    }
    Ok(UsernameCasePreserved::enforce(name).map_or_else(|_| name.nfc().collect(), std::borrow::Cow::into_owned))
}

fn bounded(s: &str, max: usize) -> Result<(), PrepareError> {
    match s.len() {
        0 => Err(PrepareError::Empty),
        n if n > max => Err(PrepareError::TooLong(max)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_of_rfc_8265_section_4_3() {
        assert_eq!(
            *prepare_password("correct horse battery staple").unwrap(),
            "correct horse battery staple"
        );
        assert_eq!(
            *prepare_password("Correct Horse Battery Staple").unwrap(),
            "Correct Horse Battery Staple"
        );
        assert_eq!(*prepare_password("πßå").unwrap(), "πßå");
        assert_eq!(*prepare_password("foo\u{1680}bar").unwrap(), "foo bar");
        assert_eq!(prepare_password(""), Err(PrepareError::Empty));
        assert_eq!(prepare_password("my cat is a \u{9}by"), Err(PrepareError::Character));
    }

    #[test]
    fn one_form_for_every_keyboard() {
        assert_eq!(
            prepare_password("e\u{301}").unwrap(),
            prepare_password("\u{e9}").unwrap()
        );
        assert_eq!(
            prepare_username("Jose\u{301}@example.org").unwrap(),
            "Jos\u{e9}@example.org"
        );
        // Fullwidth letters, as East Asian input methods give them.
        assert_eq!(prepare_username("\u{ff4d}ox@example.org").unwrap(), "mox@example.org");
    }

    #[test]
    fn a_quoted_localpart_is_a_name() {
        assert_eq!(prepare_username("\"a b\"@example.org").unwrap(), "\"a b\"@example.org");
        assert_eq!(prepare_username("a\0b"), Err(PrepareError::Character));
        assert_eq!(prepare_username(&"a".repeat(321)), Err(PrepareError::TooLong(320)));
    }

    proptest! {
        #[test]
        fn preparing_twice_is_preparing_once(s in "\\PC{1,40}") {
            if let Ok(once) = prepare_password(&s) {
                prop_assert_eq!(prepare_password(&once).unwrap(), once);
            }
        }
    }
}
