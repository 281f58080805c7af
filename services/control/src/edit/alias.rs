//! Changes to lists of addresses.

use mox_config::{AddressPattern, Alias};
use mox_types::{Address, Domain, Localpart};
use toml_edit::{Array, Item, Table, TableLike, value};

use super::{Edit, EditError, below};

/// Settings to change; none stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AliasSettings {
    /// Anybody may write to it.
    pub post_public: Option<bool>,
    /// Members may see who the others are.
    pub list_members: Option<bool>,
    /// Members may use its address as their own.
    pub allow_msg_from: Option<bool>,
}

/// The alias of an address, as the configuration has it: localparts are the same in any case unless the domain keeps
/// case apart.
///
/// # Errors
/// If there is none.
pub fn find<'c>(config: &'c mox_config::Dynamic, address: &Address) -> Result<(&'c Localpart, &'c Alias), EditError> {
    let domain = config.domains.get(&address.domain);
    let found = domain.and_then(|domain| {
        let wanted = address.localpart.as_str();
        domain.aliases.iter().find(|(localpart, _)| {
            let known = localpart.as_str();
            known == wanted || !domain.localpart_case_sensitive && known.to_lowercase() == wanted.to_lowercase()
        })
    });
    found.ok_or_else(|| {
        EditError::NotFound(format!(
            "there is no alias {address}: see mox config alias list {}",
            address.domain
        ))
    })
}

impl Edit<'_> {
    /// A new list.
    ///
    /// # Errors
    /// If the address is taken, the domain is not there, or a member is no address of an account.
    pub fn add_alias(
        &mut self,
        address: &Address,
        members: &[Address],
        settings: AliasSettings,
    ) -> Result<(), EditError> {
        self.known_domain(&address.domain)?;
        if find(self.config, address).is_ok() {
            return Err(EditError::Exists(format!("alias {address} is there already")));
        }
        self.free_address(&AddressPattern::Address(address.clone()))?;
        if members.is_empty() {
            return Err(EditError::Invalid(format!(
                "alias {address} needs an address that it leads to"
            )));
        }
        let mut added = Array::new();
        for member in members {
            self.known_member(member)?;
            if added.iter().any(|known| known.as_str() == Some(&member.to_string())) {
                return Err(EditError::Exists(format!("{member} is given twice")));
            }
            added.push(member.to_string());
        }
        let mut table = Table::new();
        table.insert("addresses", value(added));
        apply(&mut table, settings);
        let domain = self.written_domain(&address.domain);
        let aliases = below(self.document.as_table_mut(), &["domains", &domain, "aliases"])?;
        aliases.insert(&address.localpart.to_string(), Item::Table(table));
        Ok(())
    }

    /// Changes settings of a list.
    ///
    /// # Errors
    /// If it is not there.
    pub fn update_alias(&mut self, address: &Address, settings: AliasSettings) -> Result<(), EditError> {
        apply(self.alias(address)?, settings);
        Ok(())
    }

    /// Removes a list.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove_alias(&mut self, address: &Address) -> Result<(), EditError> {
        let (domain, localpart) = self.written_alias(address)?;
        below(self.document.as_table_mut(), &["domains", &domain, "aliases"])?.remove(&localpart);
        // The domain stays, also where it is written nowhere but in the name of its alias.
        let domains = self.document.get_mut("domains").and_then(Item::as_table_like_mut);
        if let Some(table) = domains.and_then(|domains| domains.get_mut(&domain)?.as_table_mut()) {
            table.set_implicit(false);
        }
        Ok(())
    }

    /// Adds members to a list.
    ///
    /// # Errors
    /// If it is not there, or one is a member already, or no address of an account.
    pub fn add_members(&mut self, address: &Address, members: &[Address]) -> Result<(), EditError> {
        for member in members {
            self.known_member(member)?;
        }
        let listed = addresses(self.alias(address)?, address)?;
        for member in members {
            if listed.iter().any(|known| is(known, member)) {
                return Err(EditError::Exists(format!(
                    "{member} is an address of alias {address} already"
                )));
            }
            listed.push(member.to_string());
        }
        Ok(())
    }

    /// Removes members of a list.
    ///
    /// # Errors
    /// If it is not there, or one is no member, or none would be left.
    pub fn remove_members(&mut self, address: &Address, members: &[Address]) -> Result<(), EditError> {
        let listed = addresses(self.alias(address)?, address)?;
        for member in members {
            let before = listed.len();
            listed.retain(|known| !is(known, member));
            if listed.len() == before {
                return Err(EditError::NotFound(format!(
                    "{member} is no address of alias {address}: see mox config alias print {address}"
                )));
            }
        }
        if listed.is_empty() {
            return Err(EditError::Invalid(format!(
                "alias {address} would have no addresses: remove it with mox config alias rm {address}"
            )));
        }
        Ok(())
    }

    fn known_member(&self, member: &Address) -> Result<(), EditError> {
        match self.owner(&AddressPattern::Address(member.clone())) {
            Some(_) => Ok(()),
            None => Err(EditError::Invalid(format!(
                "no account has the address {member}: aliases lead to local addresses only"
            ))),
        }
    }

    /// The table of a list.
    fn alias(&mut self, address: &Address) -> Result<&mut dyn TableLike, EditError> {
        let (domain, localpart) = self.written_alias(address)?;
        below(
            self.document.as_table_mut(),
            &["domains", &domain, "aliases", &localpart],
        )
    }

    /// The keys of a list as they are written, which may be in another form than they are printed.
    fn written_alias(&self, address: &Address) -> Result<(String, String), EditError> {
        let (localpart, _) = find(self.config, address)?;
        let domain = self.written_domain(&address.domain);
        let aliases = self
            .document
            .get("domains")
            .and_then(|domains| domains.get(&domain)?.get("aliases")?.as_table_like());
        let written = aliases.and_then(|aliases| {
            let mut keys = aliases.iter().map(|(key, _)| key);
            keys.find(|key| key.parse().as_ref() == Ok(localpart))
                .map(str::to_owned)
        });
        Ok((domain, written.unwrap_or_else(|| localpart.to_string())))
    }

    fn written_domain(&self, domain: &Domain) -> String {
        let domains = self.document.get("domains").and_then(Item::as_table_like);
        let written = domains.and_then(|domains| {
            let mut keys = domains.iter().map(|(key, _)| key);
            keys.find(|key| key.parse().as_ref() == Ok(domain)).map(str::to_owned)
        });
        written.unwrap_or_else(|| domain.to_string())
    }
}

fn apply(table: &mut dyn TableLike, settings: AliasSettings) {
    for (name, setting) in [
        ("post_public", settings.post_public),
        ("list_members", settings.list_members),
        ("allow_msg_from", settings.allow_msg_from),
    ] {
        if let Some(setting) = setting {
            table.insert(name, value(setting));
        }
    }
}

fn addresses<'t>(table: &'t mut dyn TableLike, address: &Address) -> Result<&'t mut Array, EditError> {
    let listed = table.get_mut("addresses").and_then(Item::as_array_mut);
    listed.ok_or_else(|| EditError::Invalid(format!("addresses of alias {address} in domains.toml is not a list")))
}

fn is(written: &toml_edit::Value, member: &Address) -> bool {
    written.as_str().is_some_and(|text| text.parse().as_ref() == Ok(member))
}

#[cfg(test)]
mod tests {
    use mox_config::{Dynamic, Source, Static};

    use super::*;

    const TEXT: &str = r#"# Ours.
[domains."Example.org".aliases.Team] # all of us
addresses = ["a@example.org"] # more to come
[accounts.a]
domain = "example.org"
[accounts.a.destinations."a@example.org"]
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

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn alias(config: &Dynamic, address: &str) -> Alias {
        find(config, &at(address)).unwrap().1.clone()
    }

    #[test]
    fn lists_come_and_go_with_comments_kept() {
        let settings = AliasSettings {
            post_public: Some(true),
            ..AliasSettings::default()
        };
        let (text, config) = edited(|e| e.add_alias(&at("x.y@example.org"), &[at("b@example.org")], settings)).unwrap();
        assert!(text.contains("# Ours.") && text.contains("# all of us"), "{text}");
        let added = alias(&config, "X.y@example.org");
        assert!(added.post_public && !added.list_members && added.addresses == [at("b@example.org")]);

        let change = AliasSettings {
            post_public: Some(false),
            list_members: Some(true),
            allow_msg_from: Some(true),
        };
        let (_, config) = edited(|e| e.update_alias(&at("team@example.org"), change)).unwrap();
        let changed = alias(&config, "team@example.org");
        assert!(!changed.post_public && changed.list_members && changed.allow_msg_from);

        let (text, config) = edited(|e| e.add_members(&at("team@example.org"), &[at("b@example.org")])).unwrap();
        assert_eq!(alias(&config, "team@example.org").addresses.len(), 2);
        assert!(text.contains("# more to come"), "{text}");
        let (_, config) = edited(|e| {
            e.add_members(&at("team@example.org"), &[at("b@example.org")])?;
            e.remove_members(&at("team@example.org"), &[at("a@example.org")])
        })
        .unwrap();
        assert_eq!(alias(&config, "team@example.org").addresses, [at("b@example.org")]);
        let (_, config) = edited(|e| e.remove_alias(&at("team@example.org"))).unwrap();
        assert!(find(&config, &at("team@example.org")).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let none = AliasSettings::default();
        let add = |alias: &str, members: &[&str]| {
            let members: Vec<Address> = members.iter().map(|m| at(m)).collect();
            edited(|e| e.add_alias(&at(alias), &members, none))
                .unwrap_err()
                .to_string()
        };
        for (error, part) in [
            (add("TEAM@example.org", &["a@example.org"]), "is there already"),
            (add("a@example.org", &["b@example.org"]), "address of account a"),
            (add("new@example.org", &[]), "needs an address"),
            (add("new@example.org", &["c@example.org"]), "no account has"),
            (
                add("new@example.org", &["a@example.org", "a@example.org"]),
                "given twice",
            ),
            (add("new@other.example", &["a@example.org"]), "no domain"),
        ] {
            assert!(error.contains(part), "{error}");
        }
        let team = at("team@example.org");
        let errors = [
            edited(|e| e.remove_members(&team, &[at("a@example.org")])).unwrap_err(),
            edited(|e| e.remove_members(&team, &[at("b@example.org")])).unwrap_err(),
            edited(|e| e.add_members(&team, &[at("a@example.org")])).unwrap_err(),
            edited(|e| e.remove_alias(&at("x@example.org"))).unwrap_err(),
        ];
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            text[0].contains("would have no addresses") && text[1].contains("is no address"),
            "{text:?}"
        );
        assert!(
            text[2].contains("already") && text[3].contains("there is no alias"),
            "{text:?}"
        );
    }
}
