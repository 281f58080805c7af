//! Which identity may call what. Deny by default: a method without a row here can't be called at all.
//!
//! This is the "may call" column of the architecture page, written out. A session's rights are a second, separate
//! bound: mailbox and submission calls carry a token of one account.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::Identity;

/// What travels, and so which clock applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One request, one answer: a deadline for the whole.
    Unary,
    /// Messages in one or both directions: bounded time between them.
    Stream,
    /// A stream on which silence is normal.
    Watch,
}

use Kind::{Stream, Unary, Watch};

struct Service {
    name: &'static str,
    callers: &'static [&'static str],
    methods: &'static [(&'static str, Kind)],
}

/// What control passes on to the store.
const ADMIN: &[(&str, Kind)] = &[
    ("RecalculateCounts", Stream),
    ("Reindex", Stream),
    ("ReassignThreads", Stream),
    ("Retrain", Stream),
    ("BumpUidValidity", Stream),
    ("ReassignUids", Stream),
    ("FixUids", Stream),
    ("FixMessageSizes", Stream),
    ("Reparse", Stream),
    ("EnsureParsed", Stream),
    ("Import", Stream),
    ("Export", Stream),
    ("Backup", Stream),
];

/// Looking at webhooks and steering them.
const HOOKS: &[(&str, Kind)] = &[
    ("List", Unary),
    ("Change", Unary),
    ("Get", Stream),
    ("ListRetired", Unary),
    ("GetRetired", Stream),
];

/// The same of the store and of control.
const REPORTS: &[(&str, Kind)] = &[
    ("ListDmarcReports", Unary),
    ("GetDmarcReport", Unary),
    ("ListTlsReports", Unary),
    ("GetTlsReport", Unary),
    ("ListBundles", Unary),
    ("ListSuppressed", Unary),
    ("AddSuppressed", Unary),
    ("RemoveSuppressed", Unary),
];

const SERVICES: &[Service] = &[
    // Answered by the store.
    Service {
        name: "mox.config.v1.ConfigService",
        callers: &[
            "smtp-in",
            "submission",
            "imap",
            "queue-delivery",
            "web",
            "acme",
            "control",
        ],
        methods: &[("Get", Unary)],
    },
    Service {
        name: "mox.config.v1.ConfigAdminService",
        callers: &["control"],
        methods: &[
            ("Commit", Unary),
            ("SetPassword", Unary),
            ("RemoveAccount", Unary),
            ("ListAccounts", Unary),
            ("RevealCid", Unary),
        ],
    },
    Service {
        name: "mox.auth.v1.AuthService",
        callers: &["submission", "imap", "web"],
        methods: &[
            ("Authenticate", Stream),
            ("RenewSessions", Unary),
            ("EndSession", Unary),
            ("DescribeClient", Unary),
        ],
    },
    Service {
        name: "mox.auth.v1.AuthAdminService",
        callers: &["control"],
        methods: &[
            ("ListPublicKeys", Unary),
            ("AddPublicKey", Unary),
            ("RemovePublicKey", Unary),
            ("ListLogins", Unary),
        ],
    },
    Service {
        name: "mox.delivery.v1.DeliveryService",
        callers: &["smtp-in"],
        methods: &[
            ("LookupRecipient", Unary),
            ("Upload", Stream),
            ("Assess", Unary),
            ("Deliver", Unary),
        ],
    },
    Service {
        name: "mox.mail.v1.MailService",
        callers: &["imap", "web"],
        methods: &[
            ("Upload", Stream),
            ("ListMailboxes", Unary),
            ("GetMailbox", Unary),
            ("CreateMailbox", Unary),
            ("DeleteMailbox", Unary),
            ("RenameMailbox", Unary),
            ("SetSubscribed", Unary),
            ("GetQuota", Unary),
            ("ListRows", Unary),
            ("ListChanges", Unary),
            ("GetMessages", Unary),
            ("ReadContents", Stream),
            ("Search", Unary),
            ("Sort", Stream),
            ("Thread", Stream),
            ("ListAccountChanges", Unary),
            ("Append", Unary),
            ("StoreFlags", Unary),
            ("Copy", Unary),
            ("Move", Unary),
            ("Expunge", Unary),
            ("GetMetadata", Unary),
            ("SetMetadata", Unary),
            ("ListMetadataChanges", Unary),
            ("Watch", Watch),
        ],
    },
    Service {
        name: "mox.queue.v1.SubmitService",
        callers: &["submission", "web"],
        methods: &[("Upload", Stream), ("CheckSender", Unary), ("Enqueue", Unary)],
    },
    Service {
        name: "mox.queue.v1.QueueService",
        callers: &["queue-delivery"],
        methods: &[
            ("Claim", Unary),
            ("Renew", Unary),
            ("Complete", Unary),
            ("ReadContent", Stream),
        ],
    },
    Service {
        name: "mox.queue.v1.QueueAdminService",
        callers: &["control"],
        methods: &[
            ("List", Unary),
            ("Change", Unary),
            ("Dump", Stream),
            ("ListRetired", Unary),
            ("GetRetired", Unary),
            ("ListHoldRules", Unary),
            ("AddHoldRule", Unary),
            ("RemoveHoldRule", Unary),
            ("ListSuppressions", Unary),
            ("AddSuppression", Unary),
            ("RemoveSuppression", Unary),
        ],
    },
    Service {
        name: "mox.policy.v1.PolicyService",
        callers: &["queue-delivery"],
        methods: &[
            ("GetDomain", Unary),
            ("PutDomain", Unary),
            ("ClaimRefresh", Unary),
            ("GetHost", Unary),
            ("PutHost", Unary),
        ],
    },
    Service {
        name: "mox.report.v1.ReportService",
        callers: &["smtp-in"],
        methods: &[("RecordEvaluation", Unary)],
    },
    Service {
        name: "mox.report.v1.ReportJobService",
        callers: &["queue-delivery"],
        methods: &[
            ("AcquireLease", Unary),
            ("ListDue", Unary),
            ("GetBundle", Unary),
            ("FinishBundle", Unary),
        ],
    },
    Service {
        name: "mox.report.v1.ReportAdminService",
        callers: &["control"],
        methods: REPORTS,
    },
    Service {
        name: "mox.hook.v1.HookService",
        callers: &["queue-delivery"],
        methods: &[
            ("Claim", Unary),
            ("Renew", Unary),
            ("ReadPayload", Stream),
            ("Complete", Unary),
        ],
    },
    Service {
        name: "mox.hook.v1.HookAdminService",
        callers: &["control"],
        methods: HOOKS,
    },
    Service {
        name: "mox.admin.v1.StoreAdminService",
        callers: &["control"],
        methods: ADMIN,
    },
    // Answered by control.
    Service {
        name: "mox.hook.v1.HookControlService",
        callers: &["cli", "web"],
        methods: HOOKS,
    },
    Service {
        name: "mox.report.v1.ReportControlService",
        callers: &["cli", "web"],
        methods: REPORTS,
    },
    Service {
        name: "mox.admin.v1.AdminService",
        callers: &["cli", "web"],
        methods: ADMIN,
    },
    Service {
        name: "mox.queue.v1.QueueControlService",
        callers: &["cli", "web"],
        methods: &[
            ("Change", Unary),
            ("Dump", Stream),
            ("ListRetired", Unary),
            ("GetRetired", Unary),
            ("ListHoldRules", Unary),
            ("AddHoldRule", Unary),
            ("RemoveHoldRule", Unary),
            ("ListSuppressions", Unary),
            ("AddSuppression", Unary),
            ("RemoveSuppression", Unary),
        ],
    },
    Service {
        name: "mox.control.v1.ControlService",
        callers: &["cli", "web"],
        methods: &[
            ("Stop", Unary),
            ("GetLogLevels", Unary),
            ("SetLogLevel", Unary),
            ("SetAccountPassword", Unary),
            ("SetAdminPassword", Unary),
            ("ReloadConfig", Unary),
            ("AddAccount", Unary),
            ("RemoveAccount", Unary),
            ("AddAddress", Unary),
            ("RemoveAddress", Unary),
            ("AddDomain", Unary),
            ("RemoveDomain", Unary),
            ("ListTlsPublicKeys", Unary),
            ("AddTlsPublicKey", Unary),
            ("RemoveTlsPublicKey", Unary),
            ("ListLogins", Unary),
            ("ListQueue", Unary),
            ("RevealCid", Unary),
            ("Status", Unary),
        ],
    },
    Service {
        name: "mox.control.v1.AliasService",
        callers: &["cli", "web"],
        methods: &[
            ("ListAliases", Unary),
            ("GetAlias", Unary),
            ("AddAlias", Unary),
            ("UpdateAlias", Unary),
            ("RemoveAlias", Unary),
            ("AddAliasAddresses", Unary),
            ("RemoveAliasAddresses", Unary),
        ],
    },
    // Answered by every process.
    Service {
        name: "mox.node.v1.NodeService",
        callers: &["control"],
        methods: &[
            ("Info", Unary),
            ("GetLogLevels", Unary),
            ("SetLogLevel", Unary),
            ("Stop", Unary),
        ],
    },
    Service {
        name: "grpc.health.v1.Health",
        callers: &crate::identity::ALL,
        methods: &[("Check", Unary), ("Watch", Watch)],
    },
];

/// One row: the kind of a method, and who may call it.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    pub(crate) kind: Kind,
    callers: &'static [&'static str],
}

impl Method {
    pub(crate) fn allows(&self, caller: &Identity) -> bool {
        self.callers.contains(&caller.as_str())
    }
}

static TABLE: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    let rows = SERVICES.iter().flat_map(|s| {
        s.methods.iter().map(|(name, kind)| {
            (
                format!("/{}/{name}", s.name),
                Method {
                    kind: *kind,
                    callers: s.callers,
                },
            )
        })
    });
    rows.collect()
});

/// The row of a method by its path, `/package.Service/Method`.
pub(crate) fn method(path: &str) -> Option<Method> {
    TABLE.get(path).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every method of the contracts has a row with its kind, and no row is of a method that is gone.
    #[test]
    fn table_is_that_of_the_contracts() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
        let mut files = Vec::new();
        for area in std::fs::read_dir(root.join("mox")).unwrap() {
            for version in std::fs::read_dir(area.unwrap().path()).unwrap() {
                for file in std::fs::read_dir(version.unwrap().path()).unwrap() {
                    files.push(file.unwrap().path());
                }
            }
        }
        let mut contracts = BTreeSet::new();
        for file in protox::compile(&files, [&root]).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    contracts.insert((path, method.client_streaming() || method.server_streaming()));
                }
            }
        }
        let ours: BTreeSet<_> = TABLE
            .iter()
            .filter(|(path, _)| !path.starts_with("/grpc.health"))
            .map(|(path, m)| (path.clone(), m.kind != Unary))
            .collect();
        assert_eq!(ours, contracts);
    }

    #[test]
    fn smtp_in_can_deliver_and_read_nothing() {
        let smtp_in = Identity::new("smtp-in");
        assert!(
            method("/mox.delivery.v1.DeliveryService/Deliver")
                .unwrap()
                .allows(&smtp_in)
        );
        for (path, row) in TABLE.iter().filter(|(path, _)| path.starts_with("/mox.mail.")) {
            assert!(!row.allows(&smtp_in), "{path}");
        }
    }

    #[test]
    fn callers_are_identities_that_exist() {
        for service in SERVICES {
            for caller in service.callers {
                assert!(crate::identity::ALL.contains(caller), "{caller} of {}", service.name);
            }
        }
    }
}
