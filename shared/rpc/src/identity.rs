//! Who calls.

use std::borrow::Cow;
use std::fmt;

/// The name of a kind of process, as its callers' rights go by: a service's name, or [`Identity::CLI`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(Cow<'static, str>);

/// Every identity there is, and so every name that counts in a certificate.
pub(crate) const ALL: [&str; 9] = [
    "store",
    "smtp-in",
    "submission",
    "imap",
    "queue-delivery",
    "web",
    "acme",
    "control",
    "cli",
];

impl Identity {
    /// Of a process that was started by hand, on the unix socket of control.
    pub const CLI: Identity = Identity(Cow::Borrowed("cli"));

    /// By its name. A name that is none of ours is an identity that may call nothing.
    #[must_use]
    pub fn new(name: &str) -> Self {
        match ALL.iter().find(|known| **known == name) {
            Some(known) => Self(Cow::Borrowed(known)),
            None => Self(Cow::Owned(name.to_owned())),
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who made this request, as the transport established it.
///
/// # Errors
/// INTERNAL, if the request came by no transport of this crate.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Identity, tonic::Status> {
    request
        .extensions()
        .get::<Identity>()
        .cloned()
        .ok_or_else(|| tonic::Status::internal("the request has no caller: it did not come through mox_rpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_without_transport_has_no_caller() {
        assert_eq!(
            caller(&tonic::Request::new(())).unwrap_err().code(),
            tonic::Code::Internal
        );
    }

    #[test]
    fn known_and_unknown_names_keep_their_text() {
        assert_eq!(Identity::new("imap").as_str(), "imap");
        assert_eq!(Identity::new("somebody").to_string(), "somebody");
        assert_eq!(Identity::new("cli"), Identity::CLI);
    }
}
