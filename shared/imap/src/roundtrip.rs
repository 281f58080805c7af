//! What is true of every command: parsing what it serializes to gives it back, and no bytes make the parser panic.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::acl::{self, Acl, Rights};
use crate::append::{self, Append, Data, Next, Place, Segment, Step, Verb};
use crate::command::{Command, Copy, Tagged, parse_command};
use crate::cursor::Names;
use crate::datetime::{Date, DateTime};
use crate::fetch::{Fetch, FetchItem, Rfc822};
use crate::flags::Flag;
use crate::list::{self, List};
use crate::metadata::{self, GetMetadata, SetMetadata};
use crate::multisearch::MultiSearch;
use crate::notify::{self, Event, Filter, Notify};
use crate::quota::Quota;
use crate::search::{self, Search, SearchKey};
use crate::section::{Partial, Section, SectionText};
use crate::sequence::{Bound, SequenceSet};
use crate::sort::{Algorithm, Criterion, Sort, SortKey, Thread};
use crate::status::{SelectParameter, StatusItem};
use crate::store::{Mode, Store};
use crate::window::Window;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9]{1,8}", "[^\u{0}]{0,12}", Just("NIL".to_owned())]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z/]{1,8}[a-z]", "[^\u{0}/]{1,12}", Just("INBOX".to_owned())]
}

fn bound() -> impl Strategy<Value = Bound> {
    prop_oneof![(1u32..).prop_map(Bound::Number), Just(Bound::Largest)]
}

fn set() -> impl Strategy<Value = SequenceSet> {
    prop_oneof![
        Just(SequenceSet::Saved),
        vec((bound(), bound()), 1..5).prop_map(SequenceSet::Ranges)
    ]
}

fn date() -> impl Strategy<Value = Date> {
    (0u16..10_000, 1u8..13, 1u8..29).prop_map(|(year, month, day)| Date { year, month, day })
}

fn flag() -> impl Strategy<Value = Flag> {
    prop_oneof![
        Just(Flag::Seen),
        Just(Flag::Answered),
        Just(Flag::Flagged),
        Just(Flag::Deleted),
        Just(Flag::Draft),
        "[$a-zA-Z][a-z0-9]{0,8}".prop_map(Flag::Keyword),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn key() -> impl Strategy<Value = SearchKey> {
    use SearchKey as K;
    let leaf = prop_oneof![
        Just(K::All),
        Just(K::New),
        Just(K::Old),
        Just(K::Recent),
        Just(K::SaveDateSupported),
        set().prop_map(K::Numbers),
        set().prop_map(K::Uids),
        flag().prop_map(K::Flag),
        ("[a-z-]{1,8}", text()).prop_map(|(n, v)| K::Header(n, v)),
        text().prop_map(K::Body),
        text().prop_map(K::Text),
        (date(), 0..9).prop_map(|(d, n)| match n {
            0 => K::Before(d),
            1 => K::On(d),
            2 => K::Since(d),
            3 => K::SentBefore(d),
            4 => K::SentOn(d),
            5 => K::SentSince(d),
            6 => K::SavedBefore(d),
            7 => K::SavedOn(d),
            _ => K::SavedSince(d),
        }),
        (number(), 0..3).prop_map(|(n, k)| match k {
            0 => K::Larger(n),
            1 => K::Smaller(n),
            _ => K::ModSeq(n),
        }),
        (1u32..).prop_map(K::Older),
        "[a-zA-Z0-9_-]{1,20}".prop_map(K::EmailId),
        "[a-zA-Z0-9_-]{1,20}".prop_map(K::ThreadId),
        (1u32..).prop_map(K::UidAfter),
        (1u32..).prop_map(K::UidBefore),
        (1u32..).prop_map(K::Younger),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(K::And),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| K::Or(Box::new(a), Box::new(b))),
            inner.prop_map(|k| K::Not(Box::new(k))),
        ]
    })
}

fn window() -> impl Strategy<Value = Window> {
    (1u32.., 1u32.., any::<bool>()).prop_map(|(first, last, from_end)| Window { first, last, from_end })
}

fn returns() -> impl Strategy<Value = (Option<search::Return>, Vec<FetchItem>)> {
    let returns = (
        any::<[bool; 4]>(),
        any::<[bool; 3]>(),
        option::of(window()),
        vec(item(), 0..3),
    )
        .prop_map(|([min, max, all, count], [save, update, context], partial, items)| {
            let none = !(min || max || count || save || update || context || partial.is_some());
            let returns = search::Return {
                min,
                max,
                all: (all && partial.is_none()) || none,
                count,
                save,
                partial,
                update,
                context,
            };
            (returns, if update { items } else { Vec::new() })
        });
    option::of(returns).prop_map(|r| r.map_or((None, Vec::new()), |(r, items)| (Some(r), items)))
}

fn search() -> impl Strategy<Value = Search> {
    (returns(), any::<bool>(), key()).prop_map(|((returns, update_items), charset, key)| Search {
        returns,
        update_items,
        charset,
        key,
    })
}

fn sort() -> impl Strategy<Value = Sort> {
    use SortKey as K;
    let keys = vec![
        K::Arrival,
        K::Cc,
        K::Date,
        K::From,
        K::Size,
        K::Subject,
        K::To,
        K::DisplayFrom,
        K::DisplayTo,
    ];
    let criterion =
        (proptest::sample::select(keys), any::<bool>()).prop_map(|(key, reverse)| Criterion { key, reverse });
    (returns(), vec(criterion, 1..5), key()).prop_map(|((returns, update_items), criteria, key)| Sort {
        returns,
        update_items,
        criteria,
        key,
    })
}

fn thread() -> impl Strategy<Value = Thread> {
    let algorithm = proptest::sample::select(vec![Algorithm::OrderedSubject, Algorithm::References]);
    (algorithm, key()).prop_map(|(algorithm, key)| Thread { algorithm, key })
}

fn filter(delayed: bool) -> impl Strategy<Value = Filter> {
    use Filter as F;
    let selected = if delayed { F::SelectedDelayed } else { F::Selected };
    prop_oneof![
        proptest::sample::select(vec![F::Selected, selected, F::Inboxes, F::Personal, F::Subscribed]),
        vec(name(), 1..4).prop_map(F::Subtree),
        vec(name(), 1..4).prop_map(F::SubtreeOne),
        vec(name(), 1..4).prop_map(F::Mailboxes),
    ]
}

fn notify() -> impl Strategy<Value = Notify> {
    use Event as E;
    let event = prop_oneof![
        vec(item(), 0..3).prop_map(E::MessageNew),
        proptest::sample::select(vec![
            E::MessageExpunge,
            E::FlagChange,
            E::AnnotationChange,
            E::MailboxName,
            E::SubscriptionChange,
            E::MailboxMetadataChange,
            E::ServerMetadataChange,
            E::Other("X-FUTURE".to_owned()),
        ]),
    ];
    let group = (filter(true), vec(event, 0..5)).prop_map(|(filter, events)| notify::Group { filter, events });
    prop_oneof![
        Just(Notify::None),
        (any::<bool>(), vec(group, 1..4)).prop_map(|(status, groups)| Notify::Set { status, groups }),
    ]
}

fn section() -> impl Strategy<Value = Section> {
    let fields = || vec("[!-9;-~]{1,10}", 1..4);
    let text = prop_oneof![
        Just(SectionText::Header),
        Just(SectionText::Text),
        Just(SectionText::Mime),
        fields().prop_map(SectionText::HeaderFields),
        fields().prop_map(SectionText::HeaderFieldsNot),
    ];
    (vec(1u32.., 0..4), option::of(text))
        .prop_filter("MIME is a part's", |(part, text)| {
            !(part.is_empty() && *text == Some(SectionText::Mime))
        })
        .prop_map(|(part, text)| Section { part, text })
}

fn item() -> impl Strategy<Value = FetchItem> {
    use FetchItem as I;
    let partial =
        || option::of((number(), 1..=i64::MAX as u64).prop_map(|(offset, length)| Partial { offset, length }));
    prop_oneof![
        proptest::sample::select(vec![
            I::Envelope,
            I::Flags,
            I::InternalDate,
            I::Size,
            I::Uid,
            I::Body,
            I::BodyStructure,
            I::Rfc822(Rfc822::All),
            I::Rfc822(Rfc822::Header),
            I::Rfc822(Rfc822::Text),
            I::ModSeq,
            I::Preview { lazy: false },
            I::Preview { lazy: true },
            I::SaveDate,
            I::EmailId,
            I::ThreadId,
        ]),
        (any::<bool>(), section(), partial()).prop_map(|(peek, section, partial)| I::Section {
            peek,
            section,
            partial
        }),
        (any::<bool>(), vec(1u32.., 0..4), partial()).prop_map(|(peek, part, partial)| I::Binary {
            peek,
            part,
            partial
        }),
        vec(1u32.., 0..4).prop_map(I::BinarySize),
    ]
}

fn fetch() -> impl Strategy<Value = Fetch> {
    let modifiers = (option::of(number()), any::<bool>(), option::of(window()));
    (set(), vec(item(), 1..5), modifiers).prop_map(|(set, items, (changed_since, vanished, partial))| Fetch {
        set,
        items,
        changed_since,
        vanished,
        partial,
    })
}

fn store() -> impl Strategy<Value = Store> {
    let mode = proptest::sample::select(vec![Mode::Replace, Mode::Add, Mode::Remove]);
    (set(), option::of(number()), mode, any::<bool>(), vec(flag(), 0..4)).prop_map(
        |(set, unchanged_since, mode, silent, flags)| Store {
            set,
            unchanged_since,
            mode,
            silent,
            flags,
        },
    )
}

fn status_items() -> impl Strategy<Value = Vec<StatusItem>> {
    use StatusItem as S;
    let all = vec![
        S::Messages,
        S::Recent,
        S::UidNext,
        S::UidValidity,
        S::Unseen,
        S::Deleted,
        S::DeletedStorage,
        S::Size,
        S::HighestModSeq,
        S::AppendLimit,
        S::MailboxId,
    ];
    vec(proptest::sample::select(all), 1..6)
}

fn entry() -> impl Strategy<Value = String> {
    "/(private|shared)(/[a-z0-9 .-]{1,8}){1,3}"
}

fn get_metadata() -> impl Strategy<Value = GetMetadata> {
    use metadata::Depth;
    let depth = proptest::sample::select(vec![Depth::Entry, Depth::Children, Depth::All]);
    let options = (option::of(any::<u32>()), depth).prop_map(|(max_size, depth)| metadata::Options { max_size, depth });
    (options, prop_oneof![name(), Just(String::new())], vec(entry(), 1..4)).prop_map(|(options, mailbox, entries)| {
        GetMetadata {
            options,
            mailbox,
            entries,
        }
    })
}

fn set_metadata() -> impl Strategy<Value = SetMetadata> {
    let value = option::of(vec(any::<u8>(), 0..12));
    (name(), vec((entry(), value), 1..4)).prop_map(|(mailbox, values)| SetMetadata { mailbox, values })
}

fn acl() -> impl Strategy<Value = Acl> {
    use acl::Change;
    let change = proptest::sample::select(vec![Change::Replace, Change::Add, Change::Remove]);
    let rights = "[lrswipkxtea]{0,5}".prop_map(|letters| Rights::of(&letters));
    prop_oneof![
        name().prop_map(Acl::Get),
        name().prop_map(Acl::Mine),
        (name(), text()).prop_map(|(mailbox, identifier)| Acl::Delete { mailbox, identifier }),
        (name(), text()).prop_map(|(mailbox, identifier)| Acl::List { mailbox, identifier }),
        (name(), text(), change, rights).prop_map(|(mailbox, identifier, change, rights)| Acl::Set {
            mailbox,
            identifier,
            change,
            rights,
        }),
    ]
}

fn quota() -> impl Strategy<Value = Quota> {
    prop_oneof![
        text().prop_map(Quota::Get),
        name().prop_map(Quota::Root),
        (text(), vec(("[A-Z-]{1,8}", number()), 0..3)).prop_map(|(root, limits)| Quota::Set { root, limits }),
    ]
}

fn list() -> impl Strategy<Value = List> {
    let select = any::<[bool; 4]>().prop_map(|[subscribed, remote, recursive, special_use]| list::Select {
        subscribed,
        remote,
        recursive_match: recursive && (subscribed || special_use),
        special_use,
    });
    let returns = (
        any::<[bool; 4]>(),
        option::of(status_items()),
        option::of(vec(entry(), 1..3)),
    )
        .prop_map(
            |([subscribed, children, special_use, my_rights], status, metadata)| list::Return {
                subscribed,
                children,
                special_use,
                my_rights,
                status,
                metadata,
            },
        );
    (any::<bool>(), select, name(), vec(name(), 1..4), returns).prop_map(
        |(extended, select, reference, mut patterns, returns)| {
            if extended {
                return List {
                    extended,
                    select,
                    reference,
                    patterns,
                    returns,
                };
            }
            patterns.truncate(1);
            List {
                extended,
                select: list::Select::default(),
                reference,
                patterns,
                returns: list::Return::default(),
            }
        },
    )
}

fn parameters() -> impl Strategy<Value = Vec<SelectParameter>> {
    let qresync = (1u32.., number(), option::of(set()), option::of((set(), set()))).prop_map(
        |(uid_validity, modseq, known_uids, matches)| SelectParameter::QResync {
            uid_validity,
            modseq,
            known_uids,
            matches,
        },
    );
    vec(prop_oneof![Just(SelectParameter::CondStore), qresync], 0..3)
}

fn command() -> impl Strategy<Value = Command> {
    use Command as C;
    let copy = || (set(), name()).prop_map(|(set, mailbox)| Copy { set, mailbox });
    prop_oneof![
        proptest::sample::select(vec![
            C::Capability,
            C::Noop,
            C::Logout,
            C::StartTls,
            C::Namespace,
            C::Idle,
            C::Check,
            C::Close,
            C::Unselect,
            C::Unauthenticate,
            C::Expunge(None),
        ]),
        (text(), text()).prop_map(|(username, password)| C::Login { username, password }),
        ("[A-Z0-9-]{1,10}", option::of(vec(any::<u8>(), 0..20))).prop_map(|(mechanism, initial_response)| {
            C::Authenticate {
                mechanism,
                initial_response,
            }
        }),
        vec((text(), option::of(text())), 0..4).prop_map(C::Id),
        vec("[A-Z0-9=]{1,10}", 1..4).prop_map(C::Enable),
        (name(), parameters(), any::<bool>()).prop_map(|(mailbox, parameters, read_only)| C::Select {
            mailbox,
            parameters,
            read_only
        }),
        (name(), vec("\\\\[A-Z][a-z]{1,6}", 0..3))
            .prop_map(|(mailbox, special_use)| C::Create { mailbox, special_use }),
        name().prop_map(C::Delete),
        name().prop_map(C::Subscribe),
        name().prop_map(C::Unsubscribe),
        (name(), name()).prop_map(|(from, to)| C::Rename { from, to }),
        (name(), name()).prop_map(|(reference, pattern)| C::Lsub { reference, pattern }),
        list().prop_map(C::List),
        get_metadata().prop_map(C::GetMetadata),
        set_metadata().prop_map(C::SetMetadata),
        acl().prop_map(C::Acl),
        quota().prop_map(C::Quota),
        "[A-Z]{1,8}".prop_map(C::Compress),
        (name(), status_items()).prop_map(|(mailbox, items)| C::Status { mailbox, items }),
        set().prop_map(|s| C::Expunge(Some(s))),
        (search(), any::<bool>()).prop_map(|(s, uid)| C::Search(s, uid)),
        (fetch(), any::<bool>()).prop_map(|(f, uid)| C::Fetch(f, uid)),
        (store(), any::<bool>()).prop_map(|(s, uid)| C::Store(s, uid)),
        (copy(), any::<bool>()).prop_map(|(s, uid)| C::Copy(s, uid)),
        (copy(), any::<bool>()).prop_map(|(s, uid)| C::Move(s, uid)),
        (sort(), any::<bool>()).prop_map(|(s, uid)| C::Sort(s, uid)),
        (thread(), any::<bool>()).prop_map(|(t, uid)| C::Thread(t, uid)),
        (vec(filter(false), 0..4), search())
            .prop_map(|(sources, search)| C::MultiSearch(MultiSearch { sources, search })),
        vec("[A-Za-z0-9.]{1,10}", 1..4).prop_map(C::CancelUpdate),
        notify().prop_map(C::Notify),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    proptest::sample::select(vec![Place::Message, Place::Utf8, Place::Catenate, Place::Utf8Text])
}

/// Messages of URLs, the last one going on with what comes next.
fn segment() -> impl Strategy<Value = Segment> {
    let options = || {
        let received = option::of((0i64..200_000_000_000).prop_map(DateTime));
        (vec(flag(), 0..4), received).prop_map(|(flags, received)| append::Options { flags, received })
    };
    let message = (options(), vec(text(), 1..3)).prop_map(|(options, urls)| {
        let mut steps = vec![Step::Message(options)];
        steps.extend(urls.into_iter().map(Step::Url));
        steps
    });
    let nexts = vec![
        Next::End,
        Next::Accept,
        Next::Literal(Data::Whole),
        Next::Literal(Data::Utf8),
        Next::Literal(Data::Text),
        Next::Literal(Data::Utf8Text),
    ];
    let whole = options().prop_map(|o| vec![Step::Message(o)]);
    (
        vec(text(), 0..2),
        vec(message, 0..3),
        whole,
        proptest::sample::select(nexts),
    )
        .prop_map(|(urls, messages, whole, next)| {
            let mut steps: Vec<Step> = Vec::new();
            if messages.is_empty() {
                steps.extend(urls.into_iter().map(Step::Url));
            }
            steps.extend(messages.into_iter().flatten());
            if matches!(next, Next::Literal(Data::Whole | Data::Utf8)) {
                steps.extend(whole);
            }
            Segment { steps, next }
        })
}

fn append_start() -> impl Strategy<Value = Append> {
    let verb = prop_oneof![
        Just(Verb::Append),
        (bound(), any::<bool>()).prop_map(|(number, uid)| Verb::Replace { number, uid }),
    ];
    let begins = |s: &Segment| matches!(s.steps.first(), Some(Step::Message(_)));
    (verb, name(), segment().prop_filter("begins with a message", begins)).prop_map(|(verb, mailbox, segment)| Append {
        verb,
        mailbox,
        segment,
    })
}

fn names() -> impl Strategy<Value = Names> {
    proptest::sample::select(vec![Names::Utf7, Names::Utf8])
}

/// Bytes that look like commands more often than random ones.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "a ",
        "UID ",
        "FETCH ",
        "SEARCH ",
        "STORE ",
        "LIST ",
        "SELECT ",
        "1:*",
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
        "{3}\r\n",
        "\"",
        "\\",
        " ",
        "NOT ",
        "OR ",
        "BODY",
        "HEADER.FIELDS ",
        "RETURN ",
        "+FLAGS ",
        "&",
        "1.",
        "CHARSET ",
        "\u{fc}",
        "USE ",
        "SORT ",
        "REVERSE DATE",
        "THREAD REFERENCES UTF-8 ",
        "PARTIAL -1:-5",
        "NOTIFY SET ",
        "ESEARCH IN ",
        "mailboxes ",
        "MessageNew ",
        "APPEND ",
        "REPLACE 1 ",
        "CATENATE (",
        "URL ",
        "TEXT ",
        "UTF8 (",
        "SETMETADATA ",
        "/private/a ",
        "~{1}\r\n",
        "SETACL ",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(words.to_vec()).prop_map(|s| s.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(piece, 0..30).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn a_command_survives(command in command(), names in names()) {
        let mut out = b"a1 ".to_vec();
        command.write(names, &mut out);
        let back = parse_command(&out, names);
        prop_assert_eq!(back, Ok(Tagged { tag: "a1".to_owned(), value: command }), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn an_append_survives(append in append_start(), names in names()) {
        let mut out = b"a1 ".to_vec();
        append.write(names, &mut out);
        let literal = append.segment.next != Next::End;
        if literal {
            out.extend_from_slice(b"{10}\r\n");
        }
        let back = append::parse_start(&out, names, literal);
        let want = Tagged { tag: "a1".to_owned(), value: append };
        prop_assert_eq!(back, Some(Ok(want)), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn a_segment_survives(segment in segment(), place in place()) {
        let mut out = Vec::new();
        segment.write(place, &mut out);
        let literal = segment.next != Next::End;
        if literal {
            out.extend_from_slice(b"{10}\r\n");
        }
        // What goes on with a message's parts is only behind one of them.
        let whole = matches!(segment.steps.first(), Some(Step::Message(_)));
        if whole || matches!(place, Place::Catenate | Place::Utf8Text) || (segment.steps.is_empty() && segment.next == Next::End) {
            let back = Segment::parse(&out, Names::Utf7, place, literal);
            prop_assert_eq!(back, Ok(segment), "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(input in noise(), names in names()) {
        let _ = parse_command(&input, names);
        for literal in [false, true] {
            let _ = append::parse_start(&input, names, literal);
            for place in [Place::Message, Place::Utf8, Place::Catenate, Place::Utf8Text] {
                let _ = Segment::parse(&input, names, place, literal);
            }
        }
    }

    #[test]
    fn what_is_read_is_written_alike(input in noise()) {
        let mut data = b"a ".to_vec();
        data.extend_from_slice(&input);
        if let Ok(first) = parse_command(&data, Names::Utf8) {
            let mut out = b"a ".to_vec();
            first.value.write(Names::Utf8, &mut out);
            let second = parse_command(&out, Names::Utf8);
            prop_assert_eq!(second.as_ref(), Ok(&first), "{}", String::from_utf8_lossy(&out));
        }
    }
}
