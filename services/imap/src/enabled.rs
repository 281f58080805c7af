//! Extensions that change what the server says, which clients ask for with ENABLE (RFC 5161) or with a command that
//! only makes sense with them.

use mox_imap_proto::cursor::Names;

/// What a session's client enabled. Nothing is ever disabled but by UNAUTHENTICATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Enabled {
    /// Modification sequences are told (RFC 7162 §3.1). Also enabled by commands that use them.
    pub condstore: bool,
    /// VANISHED in place of EXPUNGE (RFC 7162 §3.2). Comes with `condstore`.
    pub qresync: bool,
    /// UTF-8 in strings, and messages with UTF-8 headers (RFC 6855).
    pub utf8: bool,
    /// IMAP4rev2's responses in place of IMAP4rev1's (RFC 9051).
    pub rev2: bool,
    /// No sequence numbers (RFC 9586).
    pub uidonly: bool,
    /// What others do with annotations is told (RFC 5464 §4.4.2).
    pub metadata: bool,
}

/// What ENABLE takes: the name, and what it needs of the session's state.
const KNOWN: [(&str, Extension); 6] = [
    ("CONDSTORE", Extension::CondStore),
    ("QRESYNC", Extension::QResync),
    ("UTF8=ACCEPT", Extension::Utf8),
    ("IMAP4REV2", Extension::Rev2),
    ("UIDONLY", Extension::UidOnly),
    ("METADATA", Extension::Metadata),
];

/// An extension to enable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    CondStore,
    QResync,
    Utf8,
    Rev2,
    UidOnly,
    Metadata,
}

impl Extension {
    /// By its name in capitals.
    pub(crate) fn named(name: &str) -> Option<Self> {
        KNOWN.iter().find(|k| k.0 == name).map(|k| k.1)
    }

    /// As capabilities name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CondStore => "CONDSTORE",
            Self::QResync => "QRESYNC",
            Self::Utf8 => "UTF8=ACCEPT",
            Self::Rev2 => "IMAP4rev2",
            Self::UidOnly => "UIDONLY",
            Self::Metadata => "METADATA",
        }
    }

    /// Whether it can't be enabled while a mailbox is selected: what was told of the mailbox would change its meaning.
    ///
    /// RFC 5161 §3.1 has clients enable before they select, and leaves it to servers to check. For CONDSTORE it is
    /// harmless, and RFC 7162 §3.1 has commands on the selected mailbox enable it anyway.
    pub(crate) fn before_select(self) -> bool {
        matches!(self, Self::Utf8 | Self::Rev2 | Self::UidOnly)
    }
}

impl Enabled {
    /// Enables an extension with what it implies. Answers whether that is new.
    pub(crate) fn enable(&mut self, extension: Extension) -> bool {
        let before = *self;
        match extension {
            Extension::CondStore => self.condstore = true,
            // RFC 7162 §3.2.3: enabling QRESYNC enables CONDSTORE.
            Extension::QResync => (self.condstore, self.qresync) = (true, true),
            Extension::Utf8 => self.utf8 = true,
            Extension::Rev2 => self.rev2 = true,
            Extension::UidOnly => self.uidonly = true,
            Extension::Metadata => self.metadata = true,
        }
        *self != before
    }

    /// Whether quoted strings of responses may be UTF-8 (RFC 6855 §3, RFC 9051 §4.3).
    pub(crate) fn utf8_strings(&self) -> bool {
        self.utf8 || self.rev2
    }

    /// How mailbox names travel (RFC 6855 §3, RFC 9051 §5.1).
    pub(crate) fn names(&self) -> Names {
        if self.utf8_strings() { Names::Utf8 } else { Names::Utf7 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qresync_brings_condstore() {
        let mut enabled = Enabled::default();
        assert!(enabled.enable(Extension::QResync));
        assert!(enabled.condstore && enabled.qresync);
        assert!(!enabled.enable(Extension::CondStore), "not new");
    }

    #[test]
    fn names_are_utf8_for_who_said_so() {
        for extension in [Extension::Utf8, Extension::Rev2] {
            let mut enabled = Enabled::default();
            assert_eq!(enabled.names(), Names::Utf7);
            enabled.enable(extension);
            assert_eq!(enabled.names(), Names::Utf8);
            assert_eq!(
                Extension::named(&extension.name().to_ascii_uppercase()),
                Some(extension)
            );
        }
    }
}
