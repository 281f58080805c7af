//! Repairs of what is kept: by the running server, or on the data of a stopped one.

use std::process::ExitCode;

use clap::{Arg, ArgMatches};
use mox_proto::admin::v1::{AccountRequest, EnsureParsedRequest, MailboxRequest};

use crate::admin::{Admins, block_on, told};
use crate::command::{Command, flag, parameter, text};
use crate::report::Printer;

/// Runs a repair, and prints what it tells.
macro_rules! repair {
    ($context:expr, $matches:expr, $call:ident, $request:expr) => {{
        let request = $request;
        let mut printer = Printer::new($matches.get_flag("json"), false);
        block_on(async {
            let admins = Admins::open($context).await?;
            let reports = admins.client().$call(request).await.map_err(|s| told(&s))?;
            printer.all(reports.into_inner()).await
        })?;
        Ok(ExitCode::SUCCESS)
    }};
}

fn json() -> Arg {
    flag("json", "print a JSON object for each finding, one a line")
}

fn account() -> Vec<Arg> {
    vec![parameter("account"), json()]
}

fn maybe_account() -> Vec<Arg> {
    vec![parameter("account").required(false), json()]
}

fn of_mailbox() -> Vec<Arg> {
    vec![parameter("account"), parameter("mailbox").required(false), json()]
}

fn mailbox(matches: &ArgMatches) -> MailboxRequest {
    MailboxRequest {
        account: text(matches, "account").to_owned(),
        mailbox: text(matches, "mailbox").to_owned(),
    }
}

fn of_account(matches: &ArgMatches) -> AccountRequest {
    AccountRequest {
        account: text(matches, "account").to_owned(),
    }
}

fn account_or_all() -> Vec<Arg> {
    vec![parameter("account").required(false), json()]
}

pub const REINDEX: Command = Command {
    words: &["reindex"],
    parameters: "[account]",
    help: "Make the search index of an account, or of all accounts, anew.\n\n\
           The index finds the messages that have a text in them. It is kept up to date in the background, and is made \
           anew by itself when it cannot be read; this is for those who want to be sure. Searches give the same answers \
           with any index or none: until the index is complete, they read the messages that it has not got yet. Prints \
           how many messages, terms and bytes it has. With a running mox, mail is delivered and read meanwhile; if mox is \
           stopped, its data is opened directly.",
    arguments: account_or_all,
    run: |context, matches| repair!(context, matches, reindex, of_account(matches)),
};

pub const REASSIGN_THREADS: Command = Command {
    words: &["reassignthreads"],
    parameters: "[account]",
    help: "Assign the threads of all messages anew, of an account or of all accounts.\n\n\
           First, all messages are taken out of their threads, and the Message-ID and base subject of each are written \
           down again. Then each message is linked to its parent and all of that one's ancestors: to the nearest message \
           that its References name, from the last to the first, or its In-Reply-To if it has none; a message with \
           neither is linked to the latest message before it with the same base subject. Only messages with the same \
           base subject are linked, so that an answer with a new subject begins a thread. If the message that one \
           directly answers to is not there, but an earlier one is, that is kept as a missing link.\n\n\
           The base subject is in lower case, with white space as single spaces, and without what replying, forwarding \
           and mailing lists add: leading \"Re:\", \"Fwd:\", \"Fw:\" and \"[list]\", trailing \"(fwd)\", enclosing \
           \"[fwd: …]\".\n\n\
           New messages are put into threads when they arrive. This is for messages that came before those that they \
           answer to, as after an import. With a running mox, mail is delivered and read meanwhile; if mox is stopped, \
           its data is opened directly.",
    arguments: account_or_all,
    run: |context, matches| repair!(context, matches, reassign_threads, of_account(matches)),
};

pub const RETRAIN: Command = Command {
    words: &["retrain"],
    parameters: "accountname",
    help: "Make the junk filter of an account anew.\n\n\
           It forgets all words, and learns again from all messages that are flagged as junk ($Junk) or not junk \
           ($NotJunk). Needed after onegrams, twograms or threegrams of the account's junk_filter were changed, and when a \
           filter was added to an account that has flagged messages. Otherwise nothing changes: messages are learned from \
           shortly after they are flagged, and unlearned when they are flagged otherwise or removed. Prints how many \
           words and messages it knows. With a running mox, mail is delivered and read meanwhile; if mox is stopped, its \
           data is opened directly.",
    arguments: || vec![parameter("accountname"), json()],
    run: |context, matches| {
        let account = text(matches, "accountname").to_owned();
        repair!(context, matches, retrain, AccountRequest { account })
    },
};

pub const RECALCULATE: Command = Command {
    words: &["recalculatemailboxcounts"],
    parameters: "account",
    help: "Count the messages of all mailboxes of an account anew, and their size for the quota.\n\n\
           The numbers of messages, of those that are unseen or deleted, and their sizes are kept up to date with every \
           change. Should a defect have made them wrong, this finds the wrong ones, corrects them, and prints them. \
           With a running mox, mail is delivered and read meanwhile; if mox is stopped, its data is opened directly.",
    arguments: account,
    run: |context, matches| repair!(context, matches, recalculate_counts, of_account(matches)),
};

pub const BUMP: Command = Command {
    words: &["bumpuidvalidity"],
    parameters: "account [mailbox]",
    help: "Give a mailbox, or all of an account, another UIDVALIDITY, so that IMAP clients fetch its messages again.\n\n\
           Useful after data was restored from a backup, or repaired. The mailbox is named, or given by its id. IMAP \
           sessions that have it open are closed, and open it anew. With a stopped mox, its data is opened directly.",
    arguments: of_mailbox,
    run: |context, matches| repair!(context, matches, bump_uid_validity, mailbox(matches)),
};

pub const REASSIGN: Command = Command {
    words: &["reassignuids"],
    parameters: "account [mailboxid]",
    help: "Give all messages of a mailbox, or of all of an account, new UIDs, and the mailbox another UIDVALIDITY.\n\n\
           The new UIDs begin with 1 and have no gaps; the order of messages stays. IMAP clients fetch the messages \
           again; sessions that have the mailbox open are closed. The mailbox is given by its id, as IMAP shows it \
           (MAILBOXID), or by its name. With a stopped mox, its data is opened directly.",
    arguments: || {
        vec![
            parameter("account"),
            parameter("mailbox").required(false).value_name("mailboxid"),
            json(),
        ]
    },
    run: |context, matches| repair!(context, matches, reassign_uids, mailbox(matches)),
};

pub const FIX_UIDS: Command = Command {
    words: &["fixuidmeta"],
    parameters: "account",
    help: "Fix UIDNEXT of mailboxes and the next UIDVALIDITY of an account.\n\n\
           UIDNEXT of a mailbox is to be above the UIDs of all messages in it, and the next UIDVALIDITY of the account \
           above those of all mailboxes. What is not is raised, and printed. With a stopped mox, its data is opened \
           directly.",
    arguments: account,
    run: |context, matches| repair!(context, matches, fix_uids, of_account(matches)),
};

pub const FIX_SIZES: Command = Command {
    words: &["fixmsgsize"],
    parameters: "[account]",
    help: "Make the sizes of messages those of what is kept of them: of their added header fields and their content.\n\n\
           Of an account, or of all. Messages whose size was wrong are parsed again. If there were any, run mox \
           bumpuidvalidity too, so that IMAP clients fetch them again. With a stopped mox, its data is opened directly.",
    arguments: maybe_account,
    run: |context, matches| repair!(context, matches, fix_message_sizes, of_account(matches)),
};

pub const REPARSE: Command = Command {
    words: &["reparse"],
    parameters: "[account]",
    help: "Parse all messages of an account, or of all accounts, again.\n\n\
           Useful after an upgrade to a mox that parses better: what it computes from a message when it arrives (envelope, \
           structure, preview, subject and Message-ID for threads) is computed anew. That is done in steps; mail is \
           delivered and read meanwhile. With a stopped mox, its data is opened directly.",
    arguments: maybe_account,
    run: |context, matches| repair!(context, matches, reparse, of_account(matches)),
};

pub const ENSURE_PARSED: Command = Command {
    words: &["ensureparsed"],
    parameters: "account",
    help: "Parse those messages of an account that are not parsed, or whose parsed form cannot be read.\n\n\
           With a stopped mox, its data is opened directly.",
    arguments: || {
        let mut arguments = account();
        arguments.push(flag("all", "parse all messages again"));
        arguments
    },
    run: |context, matches| {
        let request = EnsureParsedRequest {
            account: text(matches, "account").to_owned(),
            all: matches.get_flag("all"),
        };
        repair!(context, matches, ensure_parsed, request)
    },
};
