//! Accounts, the addresses that lead to them, and what happens to their mail.

use std::collections::BTreeMap;

use mox_types::Domain;

use crate::duration::Duration;
use crate::dynamic::Route;
use crate::section::section;
use crate::value::{AddressPattern, Regexp, Secret};

section! {
    /// Mailboxes and a password, with the addresses that lead there.
    pub struct Account {
        /// The domain that addresses without one belong to.
        domain: Domain [required],
        /// For the administrator.
        description: String [eg "\"Example\""],
        /// Name of the person, for what is sent.
        full_name: String [eg "\"Jane Doe\""],
        /// If not empty, nobody can log in, and who tries is told this.
        login_disabled: String [eg "\"Please call us.\""],
        /// Called about what happens to messages that were sent.
        outgoing_webhook: Option<OutgoingWebhook>,
        /// Called about messages that arrive.
        incoming_webhook: Option<IncomingWebhook>,
        /// Addresses that, when logged in with, send messages with an id in their MAIL FROM by which bounces are
        /// recognized. They need a separator in their domain.
        from_id_login_addresses: Vec<String> [eg "[\"user+login@example.org\"]"],
        /// How long messages that left the queue can still be looked up. 0 is not at all.
        keep_retired_message_period: Duration [eg "\"168h\""],
        /// How long webhooks that were called can still be looked up. 0 is not at all.
        keep_retired_webhook_period: Duration [eg "\"168h\""],
        /// The addresses that lead here.
        destinations: BTreeMap<AddressPattern, Destination>,
        /// Refusing what looks like junk with a hint that lets people through.
        subject_pass: SubjectPass,
        /// How many bytes all messages may have together. 0 is the default of mox.toml, and less is no limit.
        quota_message_size: i64 [= 0],
        /// Mailbox for what was refused as junk, so that it can be found. Old messages are removed.
        rejects_mailbox: String [eg "\"Rejects\""],
        /// Do not remove old messages from the rejects mailbox.
        keep_rejects: bool,
        /// Mailbox for mail from senders that wrote for the first time.
        introbox: String [eg "\"Introbox\""],
        /// Flags that messages get by the mailbox that they are moved to.
        automatic_junk_flags: AutomaticJunkFlags,
        /// Telling junk by its words.
        junk_filter: Option<JunkFilter>,
        /// How many messages may be sent in a day. A password in wrong hands does less harm.
        max_outgoing_messages_per_day: u64 [= 1000],
        /// How many recipients that were never written to before may be written to in a day.
        max_first_time_recipients_per_day: u64 [= 200],
        /// Accept mail from unknown senders at once.
        no_first_time_sender_delay: bool,
        /// Users cannot choose a password themselves, they get one that is made for them.
        no_custom_password: bool,
        /// IMAP extensions that this account's clients are not offered, for clients that use them wrongly.
        imap_capabilities_disabled: Vec<String> [eg "[\"COMPRESS=DEFLATE\"]"],
        /// Which transport delivers what is sent from this account.
        routes: Vec<Route>,
    }
}

section! {
    /// Called about what happens to messages that were sent.
    pub struct OutgoingWebhook {
        /// A JSON object is posted here.
        url: String [required eg "\"http://127.0.0.1:8080/outgoing\""],
        /// Value of the Authorization header.
        authorization: Option<Secret>,
        /// Which events: delivered, suppressed, delayed, failed, relayed, expanded, canceled, unrecognized. Without any,
        /// all.
        events: Vec<String> [eg "[\"delivered\", \"failed\"]"],
    }
}

section! {
    /// Called about messages that arrive.
    pub struct IncomingWebhook {
        /// A JSON object is posted here.
        url: String [required eg "\"http://127.0.0.1:8080/incoming\""],
        /// Value of the Authorization header.
        authorization: Option<Secret>,
    }
}

section! {
    /// What happens to mail for an address.
    pub struct Destination: Default {
        /// Mailbox that it is delivered to, if no ruleset says otherwise. Empty is Inbox.
        mailbox: String [eg "\"Inbox\""],
        /// Name of the person for this address, instead of the one of the account.
        full_name: String [eg "\"Jane Doe\""],
        /// Refuse everything with this: 421 or 550 and a text.
        smtp_error: String [eg "\"550 no longer in use\""],
        /// Refuse with this text what has no valid DKIM or SPF for its From address.
        message_auth_required_smtp_error: String [eg "\"not authenticated\""],
        /// Where messages go, by what they are. The first that matches is taken.
        rulesets: Vec<Ruleset>,
    }
}

section! {
    /// What happens to messages of a kind. All conditions that are given must hold.
    pub struct Ruleset {
        /// For the SMTP MAIL FROM.
        smtp_mail_from_regexp: Option<Regexp> [eg "\"^list-.*@example\\\\.org$\""],
        /// For the address in the From header.
        msg_from_regexp: Option<Regexp> [eg "\"^news@example\\\\.org$\""],
        /// A domain that SPF or DKIM verified, or one below it.
        verified_domain: Option<Domain>,
        /// For header fields: name in lower case, and value. All must match.
        headers_regexp: BTreeMap<Regexp, Regexp>,
        /// The message was forwarded to here by another server at our wish: it is not refused for DMARC, and that
        /// server's reputation says nothing about it.
        is_forward: bool,
        /// The message comes from a mailing list of this verified domain: it is accepted without checks for junk.
        list_allow_domain: Option<Domain>,
        /// Deliver to this mailbox what would be refused as junk.
        accept_rejects_to_mailbox: String [eg "\"Junk\""],
        /// Mailbox that it is delivered to.
        mailbox: String [required eg "\"Lists\""],
        /// For the reader of this file.
        comment: String [eg "\"our list\""],
    }
}

section! {
    /// Refusing what looks like junk with a hint: a word that, put into the subject, lets the message through.
    pub struct SubjectPass: Default {
        /// How long such a word is good. 0 is not at all.
        period: Duration [eg "\"12h\""],
    }
}

section! {
    /// Flags that messages get by the mailbox that they are moved to.
    pub struct AutomaticJunkFlags: Default {
        /// Whether it is done.
        enabled: bool,
        /// Mailboxes that make a message junk. Matched without regard to case.
        junk_mailbox_regexp: Option<Regexp> [eg "\"^(junk|spam)\""],
        /// Mailboxes that make a message neither.
        neutral_mailbox_regexp: Option<Regexp> [eg "\"^(inbox|neutral|postmaster|dmarc|tlsrpt|rejects)\""],
        /// Mailboxes that make a message not junk. Without any, all that the others do not match.
        not_junk_mailbox_regexp: Option<Regexp> [eg "\"\""],
    }
}

section! {
    /// Telling junk by its words.
    pub struct JunkFilter: Default {
        /// The probability from which on a message is refused.
        threshold: f64 [= 0.95],
        /// How it is computed.
        params: JunkParams,
    }
}

section! {
    /// How the probability of junk is computed.
    pub struct JunkParams: Default {
        /// Count single words.
        onegrams: bool,
        /// Count pairs of words.
        twograms: bool,
        /// Count triples of words.
        threegrams: bool,
        /// How far a single word can go: its probability is between this and one less this.
        max_power: f64 [= 0.01],
        /// How many words count, for junk and against it.
        top_words: u32 [= 10],
        /// Words that are closer than this to telling nothing are ignored.
        ignore_words: f64 [= 0.1],
        /// Words that were seen less often than this count less.
        rare_words: u32 [= 2],
    }
}

impl Account {
    /// An account of a domain, without any address.
    #[must_use]
    pub fn new(domain: Domain) -> Self {
        Self {
            domain,
            description: String::new(),
            full_name: String::new(),
            login_disabled: String::new(),
            outgoing_webhook: None,
            incoming_webhook: None,
            from_id_login_addresses: Vec::new(),
            keep_retired_message_period: Duration::default(),
            keep_retired_webhook_period: Duration::default(),
            destinations: BTreeMap::new(),
            subject_pass: SubjectPass::default(),
            quota_message_size: 0,
            rejects_mailbox: String::new(),
            keep_rejects: false,
            introbox: String::new(),
            automatic_junk_flags: AutomaticJunkFlags::default(),
            junk_filter: None,
            max_outgoing_messages_per_day: 1000,
            max_first_time_recipients_per_day: 200,
            no_first_time_sender_delay: false,
            no_custom_password: false,
            imap_capabilities_disabled: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl Destination {
    /// The mailbox without rulesets: as configured, or Inbox.
    #[must_use]
    pub fn mailbox(&self) -> &str {
        if self.mailbox.is_empty() {
            "Inbox"
        } else {
            &self.mailbox
        }
    }
}
