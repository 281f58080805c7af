//! Changes to the text of `domains.toml`. Comments and order stay.

mod alias;

use mox_config::{AddressPattern, Dynamic, account_name_problem};
use mox_types::{Address, Domain, Localpart};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

pub use alias::{AliasSettings, find as find_alias};

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// What would be added is there.
    #[error("{0}")]
    Exists(String),
    /// What is to be changed is not there.
    #[error("{0}")]
    NotFound(String),
    /// The change is not possible.
    #[error("{0}")]
    Invalid(String),
    /// Something else has to be done first.
    #[error("{0}")]
    InUse(String),
}

/// A key for signing that a new domain gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSelector {
    /// Its selector.
    pub name: String,
    /// Where its key is, from the folder of the file.
    pub private_key_file: String,
}

/// What is decided outside about a new domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDomain {
    /// The domain.
    pub domain: Domain,
    /// Who receives its reports.
    pub account: String,
    /// Address of the account, if it is new.
    pub localpart: Option<Localpart>,
    /// Its keys.
    pub selectors: Vec<NewSelector>,
    /// Changes whenever the policy does.
    pub mtasts_policy_id: String,
}

/// The text of a file, and what it says.
pub struct Edit<'a> {
    document: DocumentMut,
    config: &'a Dynamic,
}

impl<'a> Edit<'a> {
    /// Begins with the text as it is, which was validated as `config`.
    ///
    /// # Errors
    /// If it is not TOML after all.
    pub fn new(text: &str, config: &'a Dynamic) -> Result<Self, EditError> {
        let document = text
            .parse()
            .map_err(|e| EditError::Invalid(format!("reading domains.toml: {e}")))?;
        Ok(Self { document, config })
    }

    /// The changed text.
    #[must_use]
    pub fn finish(self) -> String {
        self.document.to_string()
    }

    /// A new account with one address.
    ///
    /// # Errors
    /// If name or address are taken, or the domain is not there.
    pub fn add_account(&mut self, account: &str, address: &Address) -> Result<(), EditError> {
        self.free_account(account)?;
        self.known_domain(&address.domain)?;
        let pattern = AddressPattern::Address(address.clone());
        self.free_address(&pattern)?;
        self.insert_account(account, address)
    }

    /// Removes an account, its addresses from aliases, and the settings of domains whose reports arrive there.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove_account(&mut self, account: &str) -> Result<(), EditError> {
        let Some(removed) = self.config.accounts.get(account) else {
            return Err(self.no_account(account));
        };
        if let Some(domains) = self.document.get_mut("domains").and_then(Item::as_table_like_mut) {
            for (_, domain) in domains.iter_mut() {
                let Some(domain) = domain.as_table_like_mut() else {
                    continue;
                };
                for section in ["dmarc", "tlsrpt"] {
                    let to = domain
                        .get(section)
                        .and_then(|s| s.get("account"))
                        .and_then(Item::as_str);
                    if to == Some(account) {
                        domain.remove(section);
                    }
                }
            }
        }
        for pattern in removed.destinations.keys() {
            self.forget_member(pattern);
        }
        if let Some(accounts) = self.document.get_mut("accounts").and_then(Item::as_table_like_mut) {
            accounts.remove(account);
        }
        Ok(())
    }

    /// Lets an address lead to an account.
    ///
    /// # Errors
    /// If it is taken, or the account or domain are not there.
    pub fn add_address(&mut self, address: &AddressPattern, account: &str) -> Result<(), EditError> {
        if !self.config.accounts.contains_key(account) {
            return Err(self.no_account(account));
        }
        self.known_domain(address.domain())?;
        self.free_address(address)?;
        let destinations = below(self.document.as_table_mut(), &["accounts", account, "destinations"])?;
        destinations.insert(&address.to_string(), Item::Table(Table::new()));
        Ok(())
    }

    /// Takes an address from the account that it leads to.
    ///
    /// # Errors
    /// If it leads to none.
    pub fn remove_address(&mut self, address: &AddressPattern) -> Result<(), EditError> {
        let Some((account, pattern)) = self.owner(address) else {
            return Err(EditError::NotFound(format!(
                "no account has the address {address}: see the destinations in domains.toml"
            )));
        };
        self.forget_member(&pattern);
        let destinations = below(self.document.as_table_mut(), &["accounts", &account, "destinations"])?;
        // As written, which may be in another case or form than it is printed.
        let written = destinations
            .iter()
            .map(|(key, _)| key.to_owned())
            .find(|key| key.parse() == Ok(pattern.clone()));
        if let Some(written) = written {
            destinations.remove(&written);
        }
        Ok(())
    }

    /// A new domain with keys and reports; and its account, if that is new.
    ///
    /// # Errors
    /// If it is there already, or account and localpart don't go together.
    pub fn add_domain(&mut self, new: &NewDomain) -> Result<(), EditError> {
        let NewDomain {
            domain,
            account,
            localpart,
            ..
        } = new;
        if self.config.domains.contains_key(domain) {
            return Err(EditError::Exists(format!("domain {domain} is there already")));
        }
        let name = domain.to_string();
        let text = |s: &str| value(s.to_owned());
        {
            let table = below(self.document.as_table_mut(), &["domains", &name])?;
            table.insert("localpart_catchall_separator", text("+"));
        }
        for selector in &new.selectors {
            let path = ["domains", &name, "dkim", "selectors", &selector.name];
            let table = below(self.document.as_table_mut(), &path)?;
            table.insert("private_key_file", text(&selector.private_key_file));
        }
        if !new.selectors.is_empty() {
            let sign: Array = new.selectors.iter().map(|s| s.name.clone()).collect();
            below(self.document.as_table_mut(), &["domains", &name, "dkim"])?.insert("sign", value(sign));
        }
        for (section, localpart, mailbox) in [("dmarc", "dmarcreports", "DMARC"), ("tlsrpt", "tlsreports", "TLSRPT")] {
            let table = below(self.document.as_table_mut(), &["domains", &name, section])?;
            table.insert("localpart", text(localpart));
            table.insert("account", text(account));
            table.insert("mailbox", text(mailbox));
        }
        let policy = below(self.document.as_table_mut(), &["domains", &name, "mtasts"])?;
        policy.insert("policy_id", text(&new.mtasts_policy_id));
        policy.insert("mode", text("enforce"));
        policy.insert("max_age", text("1d"));
        match (self.config.accounts.contains_key(account), localpart) {
            (true, None) => Ok(()),
            (false, Some(localpart)) => {
                self.free_account(account)?;
                self.insert_account(
                    account,
                    &Address {
                        localpart: localpart.clone(),
                        domain: domain.clone(),
                    },
                )
            }
            (true, Some(_)) => Err(EditError::Invalid(format!(
                "account {account} exists, so it needs no new address: leave out the localpart"
            ))),
            (false, None) => Err(EditError::Invalid(format!(
                "there is no account {account}: give a localpart for its address, and it is added"
            ))),
        }
    }

    /// Removes a domain.
    ///
    /// # Errors
    /// If it is not there, or accounts have addresses in it.
    pub fn remove_domain(&mut self, domain: &Domain) -> Result<(), EditError> {
        if !self.config.domains.contains_key(domain) {
            return Err(EditError::NotFound(format!(
                "there is no domain {domain}: see the domains in domains.toml"
            )));
        }
        let mut users = Vec::new();
        for (name, account) in &self.config.accounts {
            if account.domain == *domain {
                users.push(format!("account {name} belongs to it"));
            }
            for address in account.destinations.keys().filter(|p| p.domain() == domain) {
                users.push(format!("{address} of account {name}"));
            }
        }
        for (name, other) in self.config.domains.iter().filter(|(name, _)| *name != domain) {
            let dmarc = other.dmarc.iter().filter_map(|r| r.domain.as_ref());
            let tlsrpt = other.tlsrpt.iter().filter_map(|r| r.domain.as_ref());
            if dmarc.chain(tlsrpt).any(|d| d == domain) {
                users.push(format!("reports of domain {name}"));
            }
        }
        if !users.is_empty() {
            return Err(EditError::InUse(format!(
                "domain {domain} is in use ({}): remove these first",
                users.join(", ")
            )));
        }
        let domains = below(self.document.as_table_mut(), &["domains"])?;
        let written = domains
            .iter()
            .map(|(key, _)| key.to_owned())
            .find(|key| key.parse() == Ok(domain.clone()));
        if let Some(written) = written {
            domains.remove(&written);
        }
        Ok(())
    }

    fn insert_account(&mut self, account: &str, address: &Address) -> Result<(), EditError> {
        let table = below(self.document.as_table_mut(), &["accounts", account])?;
        table.insert("domain", value(address.domain.to_string()));
        defaults(self.document.as_table_mut(), account)?;
        let destinations = below(self.document.as_table_mut(), &["accounts", account, "destinations"])?;
        destinations.insert(&address.to_string(), Item::Table(Table::new()));
        Ok(())
    }

    fn free_account(&self, account: &str) -> Result<(), EditError> {
        if self.config.accounts.contains_key(account) {
            return Err(EditError::Exists(format!(
                "account {account} is there already: choose another name"
            )));
        }
        account_name_problem(account).map_or(Ok(()), |problem| Err(EditError::Invalid(problem)))
    }

    fn known_domain(&self, domain: &Domain) -> Result<(), EditError> {
        if self.config.domains.contains_key(domain) {
            return Ok(());
        }
        Err(EditError::NotFound(format!(
            "there is no domain {domain}: add it with mox config domain add {domain} <account>"
        )))
    }

    fn free_address(&self, address: &AddressPattern) -> Result<(), EditError> {
        if let Some((account, _)) = self.owner(address) {
            return Err(EditError::Exists(format!(
                "{address} is an address of account {account} already"
            )));
        }
        if let AddressPattern::Address(a) = address {
            let domain = self.config.domains.get(&a.domain);
            if let Some(separator) = domain.and_then(|d| d.separators().find(|s| a.localpart.as_str().contains(s))) {
                return Err(EditError::Invalid(format!(
                    "{address} has {separator:?} in it, which separates what is ignored in domain {}: leave out what \
                     follows",
                    a.domain
                )));
            }
            if domain.is_some_and(|d| d.aliases.contains_key(&a.localpart)) {
                return Err(EditError::Exists(format!("{address} is an alias already")));
            }
        }
        Ok(())
    }

    fn no_account(&self, account: &str) -> EditError {
        let known: Vec<&str> = self.config.accounts.keys().map(String::as_str).collect();
        EditError::NotFound(format!("there is no account {account}: these are {}", known.join(", ")))
    }

    /// The account that has an address, and the address as it has it.
    fn owner(&self, address: &AddressPattern) -> Option<(String, AddressPattern)> {
        let folds = self
            .config
            .domains
            .get(address.domain())
            .is_none_or(|d| !d.localpart_case_sensitive);
        let same = |other: &AddressPattern| match (address, other) {
            (AddressPattern::Address(a), AddressPattern::Address(b)) => {
                let (x, y) = (a.localpart.as_str(), b.localpart.as_str());
                a.domain == b.domain && (x == y || folds && x.to_lowercase() == y.to_lowercase())
            }
            (a, b) => a == b,
        };
        self.config.accounts.iter().find_map(|(name, account)| {
            account
                .destinations
                .keys()
                .find(|p| same(p))
                .map(|p| (name.clone(), p.clone()))
        })
    }

    /// Removes an address from the members of aliases, and aliases that have no others.
    fn forget_member(&mut self, pattern: &AddressPattern) {
        let AddressPattern::Address(address) = pattern else {
            return;
        };
        let Some(domains) = self.document.get_mut("domains").and_then(Item::as_table_like_mut) else {
            return;
        };
        for (_, domain) in domains.iter_mut() {
            let Some(aliases) = domain.as_table_like_mut().and_then(|d| d.get_mut("aliases")) else {
                continue;
            };
            let Some(aliases) = aliases.as_table_like_mut() else {
                continue;
            };
            let mut empty = Vec::new();
            for (name, alias) in aliases.iter_mut() {
                let members = alias.as_table_like_mut().and_then(|a| a.get_mut("addresses"));
                let Some(members) = members.and_then(Item::as_array_mut) else {
                    continue;
                };
                let is = |v: &toml_edit::Value| v.as_str().is_some_and(|s| s.parse() == Ok(address.clone()));
                let before = members.len();
                members.retain(|member| !is(member));
                if members.is_empty() && before > 0 {
                    empty.push(name.to_owned());
                }
            }
            for name in empty {
                aliases.remove(&name);
            }
        }
    }
}

/// What a new account begins with: a filter that learns from its user, and a place for what is refused.
fn defaults(document: &mut Table, account: &str) -> Result<(), EditError> {
    let table = below(document, &["accounts", account])?;
    table.insert("rejects_mailbox", value("Rejects"));
    table.insert("no_custom_password", value(true));
    let section = below(document, &["accounts", account, "subject_pass"])?;
    section.insert("period", value("12h"));
    let section = below(document, &["accounts", account, "automatic_junk_flags"])?;
    section.insert("enabled", value(true));
    section.insert("junk_mailbox_regexp", value("^(junk|spam)"));
    let neutral = "^(inbox|neutral|postmaster|dmarc|tlsrpt|rejects)";
    section.insert("neutral_mailbox_regexp", value(neutral));
    let section = below(document, &["accounts", account, "junk_filter"])?;
    section.insert("threshold", value(0.95));
    let section = below(document, &["accounts", account, "junk_filter", "params"])?;
    section.insert("onegrams", value(true));
    section.insert("max_power", value(0.01));
    section.insert("top_words", value(10));
    section.insert("ignore_words", value(0.1));
    section.insert("rare_words", value(2));
    Ok(())
}

/// The table at a path, made if it is not there. Tables with nothing but tables in them get no line of their own.
fn below<'t>(table: &'t mut Table, path: &[&str]) -> Result<&'t mut dyn TableLike, EditError> {
    let mut current: &mut dyn TableLike = table;
    for (n, key) in path.iter().enumerate() {
        let item = current.entry(key).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        current = item
            .as_table_like_mut()
            .ok_or_else(|| EditError::Invalid(format!("{} in domains.toml is not a table", path[..=n].join("."))))?;
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use mox_config::{Source, Static};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is added is refused, or makes a file that is good and says so.
        #[test]
        fn what_is_added_is_there(name in "[a-zA-Z0-9. \\\\\"'_-]{1,12}", localpart in "[a-zA-Z0-9+.'\"#-]{1,12}") {
            let Ok(address) = format!("{localpart}@example.org").parse::<Address>() else { return Ok(()) };
            let Ok((_, config)) = edited(|e| e.add_account(&name, &address)) else { return Ok(()) };
            let destinations = &config.accounts[&name].destinations;
            prop_assert!(destinations.contains_key(&AddressPattern::Address(address)));
        }
    }

    const TEXT: &str = r#"# Ours.
[domains."example.org"] # the first
[domains."example.org".aliases.team]
addresses = ["a@example.org", "b@example.org"]
[domains."example.org".aliases.solo]
addresses = ["b@example.org"]

[accounts.a]
# Anna.
domain = "example.org"
destinations."a@example.org" = {}
[accounts.a.destinations."A2@example.org"]
mailbox = "Two"

[accounts.b]
domain = "example.org"
[accounts.b.destinations."b@example.org"]
"#;

    fn parse(text: &str) -> Dynamic {
        let fixed = Static::new("data".into(), "mail.example.org".parse().unwrap());
        let source = Source {
            file: "domains.toml".into(),
            text: text.to_owned(),
        };
        source.parse_dynamic(&fixed).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    fn edited(change: impl Fn(&mut Edit<'_>) -> Result<(), EditError>) -> Result<(String, Dynamic), EditError> {
        let before = parse(TEXT);
        let mut edit = Edit::new(TEXT, &before)?;
        change(&mut edit)?;
        let text = edit.finish();
        let after = parse(&text);
        Ok((text, after))
    }

    fn pattern(s: &str) -> AddressPattern {
        s.parse().unwrap()
    }

    #[test]
    fn accounts_and_addresses_come_and_go_with_comments_kept() {
        let (text, config) = edited(|e| e.add_account("c", &"c@example.org".parse().unwrap())).unwrap();
        assert!(
            text.contains("# Ours.") && text.contains("# the first") && text.contains("# Anna."),
            "{text}"
        );
        assert!(
            config.accounts["c"]
                .destinations
                .contains_key(&pattern("c@example.org"))
        );

        let (_, config) = edited(|e| e.add_address(&pattern("@example.org"), "a")).unwrap();
        assert!(config.accounts["a"].destinations.contains_key(&pattern("@example.org")));

        let (text, config) = edited(|e| e.remove_address(&pattern("a2@example.org"))).unwrap();
        assert_eq!(config.accounts["a"].destinations.len(), 1);
        assert!(!text.contains("Two"));

        let (text, config) = edited(|e| e.remove_account("b")).unwrap();
        assert!(!config.accounts.contains_key("b"));
        let aliases = &config.domains[&"example.org".parse().unwrap()].aliases;
        assert_eq!(aliases.len(), 1, "{text}");
        assert_eq!(aliases[&"team".parse().unwrap()].addresses.len(), 1);
    }

    #[test]
    fn a_domain_is_complete() {
        let new = NewDomain {
            domain: "example.net".parse().unwrap(),
            account: "n".into(),
            localpart: Some("n".parse().unwrap()),
            selectors: vec![NewSelector {
                name: "2026a".into(),
                private_key_file: "dkim/x.pem".into(),
            }],
            mtasts_policy_id: "1".into(),
        };
        let (text, config) = edited(|e| e.add_domain(&new)).unwrap();
        let domain = &config.domains[&new.domain];
        assert_eq!(domain.dkim.sign, ["2026a"]);
        assert_eq!(domain.dmarc.as_ref().unwrap().account, "n");
        assert_eq!(config.accounts["n"].domain, new.domain);
        assert!(
            text.contains("[domains.\"example.net\".dkim.selectors.2026a]"),
            "{text}"
        );

        let before = parse(&text);
        let mut edit = Edit::new(&text, &before).unwrap();
        assert!(matches!(edit.remove_domain(&new.domain), Err(EditError::InUse(_))));
        edit.remove_account("n").unwrap();
        let (text, before) = (edit.finish(), before);
        let after = parse(&text);
        assert!(before.domains[&new.domain].tlsrpt.is_some() && after.domains[&new.domain].tlsrpt.is_none());
        let mut edit = Edit::new(&text, &after).unwrap();
        edit.remove_domain(&new.domain).unwrap();
        assert_eq!(parse(&edit.finish()), parse(TEXT));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        let address = |s: &str| s.parse::<Address>().unwrap();
        let refused = |change: &dyn Fn(&mut Edit<'_>) -> Result<(), EditError>, expected: &str| {
            let error = edited(change).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused(&|e| e.add_account("a", &address("x@example.org")), "is there already");
        refused(
            &|e| e.add_account("x y", &address("x@example.org")),
            "cannot be the name",
        );
        refused(
            &|e| e.add_account("x", &address("A@example.org")),
            "is an address of account a already",
        );
        refused(
            &|e| e.add_account("x", &address("x@other.example")),
            "there is no domain",
        );
        refused(
            &|e| e.add_account("x", &address("team@example.org")),
            "is an alias already",
        );
        refused(
            &|e| e.add_address(&pattern("x@example.org"), "x"),
            "there is no account x: these are a, b",
        );
        refused(
            &|e| e.remove_address(&pattern("x@example.org")),
            "no account has the address",
        );
        refused(&|e| e.remove_account("x"), "there is no account x");
        refused(
            &|e| e.remove_domain(&"example.org".parse().unwrap()),
            "account a belongs to it",
        );
    }
}
