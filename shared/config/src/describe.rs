//! The annotated description of a file, made from the declared fields.
//!
//! Optional settings are commented out with `#` and no space; remove it to use one. Explanations have `# `.

use std::fmt::Write;

use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::section::{Field, Shape, Table};
use crate::sendmail::Sendmail;

/// Columns of a line of explanation.
const WIDTH: usize = 110;

/// Every setting of `mox.toml`, with its explanation.
#[must_use]
pub fn describe_static() -> String {
    describe(Static::table())
}

/// Every setting of `domains.toml`, with its explanation.
#[must_use]
pub fn describe_dynamic() -> String {
    describe(Dynamic::table())
}

/// Every setting of `/etc/moxsubmit.conf`, with its explanation.
#[must_use]
pub fn describe_sendmail() -> String {
    describe(Sendmail::table())
}

fn describe(table: &'static Table) -> String {
    let mut out = String::new();
    explain(&mut out, table.documentation);
    out.push_str(
        "#\n# This is TOML. Settings that begin with # may be left out, and have no effect until the # is removed.\n\
         # Durations are written as 300ms, 15s, 1.5h, 1h30m or 7d.\n",
    );
    write_table(&mut out, table, "", true);
    out
}

/// A line for each field, values first, as TOML wants it.
fn write_table(out: &mut String, table: &'static Table, path: &str, required: bool) {
    let fields = || table.fields.iter().filter(|f| !f.hidden);
    for field in fields().filter(|f| inline(&f.shape).is_some()) {
        out.push('\n');
        explain_field(out, field);
        let value = field
            .example
            .map(ToOwned::to_owned)
            .or_else(field.default)
            .or_else(|| inline(&field.shape));
        // The default is worth more than an example, where there is one.
        let value = (field.default)().or(value).unwrap_or_default();
        let mark = if required && field.required { "" } else { "#" };
        let _ = writeln!(out, "{mark}{} = {value}", field.name);
    }
    for field in fields().filter(|f| inline(&f.shape).is_none()) {
        let path = if path.is_empty() {
            field.name.to_owned()
        } else {
            format!("{path}.{}", field.name)
        };
        write_below(out, field, &field.shape, &path, false);
    }
}

fn write_below(out: &mut String, field: &Field, shape: &Shape, path: &str, list: bool) {
    match shape {
        Shape::Table(table) => {
            let table = table();
            out.push('\n');
            explain_field(out, field);
            let (open, close) = if list { ("[[", "]]") } else { ("[", "]") };
            let _ = writeln!(out, "#{open}{path}{close}");
            write_table(out, table, path, false);
        }
        Shape::List(entry) => write_below(out, field, entry, path, true),
        Shape::Map { example, value, .. } => {
            let bare = example
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            let example = if bare {
                (*example).to_owned()
            } else {
                format!("{example:?}")
            };
            if let Some(value) = inline(value) {
                out.push('\n');
                explain_field(out, field);
                let _ = writeln!(out, "#[{path}]\n#{example} = {value}");
            } else {
                write_below(out, field, value, &format!("{path}.{example}"), false);
            }
        }
        Shape::Leaf(_) => {}
    }
}

/// An example on one line, for what is no table.
fn inline(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Leaf(leaf) => Some(leaf.example.to_owned()),
        Shape::List(entry) => inline(entry).map(|e| format!("[{e}]")),
        Shape::Table(_) | Shape::Map { .. } => None,
    }
}

/// What a field is, in words.
fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Leaf(leaf) => leaf.kind.to_owned(),
        Shape::List(entry) => format!("list of: {}", kind(entry)),
        Shape::Map { key, value, .. } => format!("table by {key}: {}", kind(value)),
        Shape::Table(_) => "table".to_owned(),
    }
}

fn explain_field(out: &mut String, field: &Field) {
    explain(out, field.documentation);
    let mut notes = kind(&field.shape);
    if field.required {
        notes.push_str(", required");
    }
    if let Some(default) = (field.default)() {
        let _ = write!(notes, ", default {default}");
    }
    wrap(out, &format!("({notes})"));
}

fn explain(out: &mut String, documentation: &[&str]) {
    wrap(
        out,
        &documentation
            .iter()
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" "),
    );
}

fn wrap(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::check::check;

    /// The description with every setting in use.
    fn all_in_use(description: &str) -> String {
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        };
        description.lines().map(uncomment).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_described_setting_is_accepted() {
        for (description, table) in [
            (describe_static(), Static::table()),
            (describe_dynamic(), Dynamic::table()),
            (describe_sendmail(), Sendmail::table()),
        ] {
            let text = all_in_use(&description);
            let file = DeTable::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(check(table, file.get_ref()), Vec::new(), "{text}");
        }
    }

    #[test]
    fn what_is_required_is_in_use() {
        let text = describe_static();
        let file = DeTable::parse(&text).unwrap();
        assert_eq!(check(Static::table(), file.get_ref()), Vec::new());
        assert!(text.contains("\nhostname = \"mail.example.org\"\n"), "{text}");
    }

    #[test]
    fn the_settings_of_the_reference_are_there() {
        let text = describe_static() + &describe_dynamic();
        for name in [
            "data_dir",
            "package_log_levels",
            "no_fix_permissions",
            "check_updates",
            "additional_to_system",
            "cert_files",
            "external_account_binding",
            "admin_password_file",
            "nat_ips",
            "host_private_key_files",
            "client_auth_disabled",
            "smtp_max_message_size",
            "first_time_sender_delay",
            "tls_session_tickets_disabled",
            "enabled_on_https",
            "rate_limit_disabled",
            "host_tls_rpt",
            "initial_mailboxes",
            "starttls_insecure_skip_verify",
            "remote_hostname",
            "disable_ipv4",
            "smtp_code",
            "quota_message_size",
            "client_settings_domain",
            "localpart_case_sensitive",
            "dont_seal_headers",
            "policy_id",
            "minimum_attempts",
            "allow_msg_from",
            "login_disabled",
            "from_id_login_addresses",
            "keep_retired_webhook_period",
            "message_auth_required_smtp_error",
            "smtp_mail_from_regexp",
            "list_allow_domain",
            "introbox",
            "neutral_mailbox_regexp",
            "rare_words",
            "max_first_time_recipients_per_day",
            "no_custom_password",
            "imap_capabilities_disabled",
            "monitor_dnsbls",
            "web_domain_redirects",
            "continue_not_found",
            "orig_path_regexp",
            "strip_path",
            "base_path",
        ] {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(text.split(|c| !word(c)).any(|w| w == name), "{name}");
        }
    }
}
