//! `mox config test`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use mox_config::{DYNAMIC_FILE, Source, Static};

use crate::command::{Command, none};
use crate::context::{Context, folder_of};

pub const TEST: Command = Command {
    words: &["config", "test"],
    parameters: "",
    help: "Check the configuration files.\n\n\
           Everything that is wrong is printed, each with file, line and what to do, and the exit status is 1. If nothing \
           is wrong, it is 0. Files that the configuration names are looked at too.",
    arguments: none,
    run: |context, _| test(context),
};

fn test(context: &Context) -> Result<ExitCode> {
    let problems = match context.load() {
        Err(error) => error.to_string().lines().map(ToOwned::to_owned).collect(),
        Ok((file, fixed, _)) => files_problems(&file, &fixed),
    };
    if problems.is_empty() {
        println!("configuration is good");
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    Ok(ExitCode::FAILURE)
}

/// What is wrong with the files that the configuration names.
fn files_problems(file: &Path, fixed: &Static) -> Vec<String> {
    let dir = folder_of(file);
    let mut problems = Vec::new();
    let mut readable = |field: String, path: &Path| {
        let path = dir.join(path);
        if let Err(e) = std::fs::File::open(&path) {
            problems.push(format!("{}: {field}: reading {}: {e}", file.display(), path.display()));
        }
    };
    for (name, listener) in &fixed.listeners {
        let Some(tls) = &listener.tls else { continue };
        for (n, pair) in tls.key_certs.iter().enumerate() {
            readable(
                format!("listeners.{name}.tls.key_certs[{n}].cert_file"),
                &pair.cert_file,
            );
            readable(format!("listeners.{name}.tls.key_certs[{n}].key_file"), &pair.key_file);
        }
        for (n, key) in tls.host_private_key_files.iter().enumerate() {
            readable(format!("listeners.{name}.tls.host_private_key_files[{n}]"), key);
        }
    }
    for (n, ca) in fixed.tls.ca.cert_files.iter().enumerate() {
        readable(format!("tls.ca.cert_files[{n}]"), ca);
    }
    if let Some(anchors) = &fixed.dns.trust_anchor_file {
        readable("dns.trust_anchor_file".to_owned(), anchors);
    }
    let keys = Source::read(&dir.join(DYNAMIC_FILE)).map_err(Into::into);
    if let Err(error) = keys.and_then(|source| mox_control::check_keys(&source, fixed, &dir)) {
        problems.extend(error.to_string().lines().map(ToOwned::to_owned));
    }
    problems
}
