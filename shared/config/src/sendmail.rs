//! `/etc/moxsubmit.conf`: how a host sends its mail through a mail server.

use std::path::PathBuf;

use mox_types::Address;

use crate::problem::{FieldPath, Problem};
use crate::section::section;
use crate::value::{Mechanism, Secret};

section! {
    /// Settings of mox sendmail: the mail server that messages from programs on this host, such as cron, are submitted
    /// to. The file has a password: only the group that mox sendmail runs as may read it, see mox help sendmail.
    pub struct Sendmail {
        /// Name of this host, for the greeting of SMTP.
        local_hostname: String [required eg "\"host.example.org\""],
        /// Mail server to submit to.
        host: String [required eg "\"mail.example.org\""],
        /// Its port: 465 with tls, 587 with starttls, or 25.
        port: u16 [required eg "465"],
        /// Use TLS from the start, as usual at port 465.
        tls: bool [eg "true"],
        /// Begin without TLS, and change to it with STARTTLS, as usual at ports 587 and 25.
        starttls: bool [eg "true"],
        /// Accept any certificate. The password may go to anybody then.
        tls_insecure_skip_verify: bool,
        /// Files with certificates of authorities that sign the server's certificate, in PEM, instead of those of the
        /// system.
        tls_cert_files: Vec<PathBuf> [eg "[\"/etc/ssl/mail-ca.pem\"]"],
        /// User to log in as. Without it, nobody logs in.
        username: String [eg "\"user@example.org\""],
        /// Password to log in with.
        password: Secret,
        /// The only mechanism to log in with. Without it, the safest that the server offers is taken, of those above and
        /// PLAIN, which only with TLS. Naming the safest one that the server has prevents that somebody in between makes
        /// it look as if it did not have it.
        auth_method: Option<Mechanism>,
        /// Address that messages are from: MAIL FROM, and From in the header.
        from: Address [required eg "\"host@example.org\""],
        /// Address for messages to names without a domain, which mean users of this host, such as root.
        default_destination: Option<Address> [eg "\"admin@example.org\""],
        /// If true, messages go only over verified TLS, all the way: the server must support REQUIRETLS. If false, the
        /// header gets TLS-Required: No, which lets servers deliver without verified TLS where it can't be had. Without
        /// it, the recipients' domains decide.
        require_tls: Option<bool>,
    }
}

/// What is wrong with the settings, other than their form.
pub(crate) fn problems(settings: &Sendmail) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut bad = |field: &str, message: &str| {
        problems.push(Problem {
            field: FieldPath::root().key(field),
            message: message.to_owned(),
        });
    };
    if settings.tls && settings.starttls {
        bad("starttls", "tls and starttls exclude each other: use one");
    }
    let secured = settings.tls || settings.starttls;
    if settings.tls_insecure_skip_verify && !secured {
        bad("tls_insecure_skip_verify", "has no effect without tls or starttls");
    }
    if settings.require_tls == Some(true) && (!secured || settings.tls_insecure_skip_verify) {
        bad("require_tls", "needs tls or starttls, with a verified certificate");
    }
    if settings.username.is_empty() != settings.password.expose().is_empty() {
        bad("username", "username and password go together: set both or none");
    }
    if settings.auth_method.is_some() && settings.username.is_empty() {
        bad("auth_method", "has no effect without username and password");
    }
    for (field, value) in [("host", &settings.host), ("local_hostname", &settings.local_hostname)] {
        if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bad(field, "must be the name or address of a host");
        }
    }
    problems
}
