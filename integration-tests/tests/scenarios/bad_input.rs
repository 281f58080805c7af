//! Mistakes get an error that says where they are and what to do.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::output;
use mox_integration_tests::{Mox, Options, Shape, binary, lock, run, wait};

/// Runs localserve on a configuration that can't work, and gives what it said.
fn refused(mox: &Mox) -> Result<String> {
    let dir = mox.config_dir().display().to_string();
    let done = run(&binary("mox")?.display().to_string(), &["localserve", "-dir", &dir], "")?;
    ensure!(!done.status.success(), "it started: {}", output(&done));
    Ok(output(&done))
}

#[test]
fn a_typo_is_named_with_file_line_and_field() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::prepare(Shape::Single, &Options::default())?;
    let good = std::fs::read_to_string(mox.config_file())?;
    let typos = [
        (format!("log_levle = \"info\"\n{good}"), "log_levle"),
        (good.replace("log_level = \"", "log_level = \"x"), "log_level"),
        (good.replacen("hostname = ", "hostname = 5 # ", 1), "hostname"),
    ];
    for (text, field) in typos {
        ensure!(text != good, "the configuration has no {field}");
        let line = 1 + text
            .lines()
            .position(|l| l.trim_start().starts_with(field))
            .context("no such line")?;
        std::fs::write(mox.config_file(), &text)?;
        for said in [output(&mox.try_command(&["config", "test"], "")?), refused(&mox)?] {
            ensure!(said.contains("mox.toml") && said.contains(field), "{said}");
            ensure!(
                said.contains(&format!(":{line}")) || said.contains(&format!("line {line}")),
                "line {line}: {said}"
            );
        }
    }
    std::fs::write(mox.config_file(), good)?;
    mox.command(&["config", "test"])?;

    let path = mox.config_dir().join("domains.toml");
    let good = std::fs::read_to_string(&path)?;
    std::fs::write(
        &path,
        good.replace("account", "acount").replace("destinations", "destinatons"),
    )?;
    let done = mox.try_command(&["config", "test"], "")?;
    ensure!(
        !done.status.success() && output(&done).contains("domains.toml"),
        "{}",
        output(&done)
    );
    Ok(())
}

#[test]
fn a_port_in_use_is_named_with_its_service() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::prepare(Shape::Single, &Options::default())?;
    for (address, service) in [
        (mox.smtp(), "smtp"),
        (mox.imap(), "imap"),
        (mox.submissions(), "submissions"),
    ] {
        let _taken = TcpListener::bind(address)?;
        let said = refused(&mox)?.to_lowercase();
        ensure!(
            said.contains(&address.port().to_string()) && said.contains(service),
            "{said}"
        );
        ensure!(said.contains("in use"), "{said}");
    }
    Ok(())
}

#[test]
fn a_data_directory_in_use_is_said_to_be() -> Result<()> {
    let _lock = lock::shared()?;
    let mut first = Mox::start(Shape::Single)?;
    let mut data = None;
    first.edit_config(|c| data = c["data_dir"].as_str().map(|d| first.config_dir().join(d)))?;
    let second = Mox::prepare(
        Shape::Single,
        &Options {
            data_dir: data,
            ..Options::default()
        },
    )?;
    let said = refused(&second)?;
    ensure!(said.contains("in use") || said.contains("another process"), "{said}");
    // The first one is none the worse for it.
    ensure!(first.process("mox")?.exited()?.is_none(), "the first one ended");
    first.login()?;
    Ok(())
}

#[test]
fn the_store_refuses_a_data_directory_in_use_too() -> Result<()> {
    let _lock = lock::shared()?;
    let mut mox = Mox::start(Shape::Pieces)?;
    let config = mox.config_dir().join("store.toml");
    // Another store on other ports.
    let other = mox.config_dir().join("other.toml");
    let text = std::fs::read_to_string(&config)?
        .replace(":7001\"", ":7201\"")
        .replace(":7101\"", ":7301\"");
    std::fs::write(&other, text)?;
    let done = run(
        &binary("mox-store")?.display().to_string(),
        &["-config", &other.display().to_string()],
        "",
    )?;
    let said = output(&done);
    ensure!(
        !done.status.success() && (said.contains("in use") || said.contains("another process")),
        "{said}"
    );
    ensure!(mox.process("store")?.exited()?.is_none(), "the first one ended");
    Ok(())
}

#[test]
fn a_configuration_that_is_mended_while_running_is_taken() -> Result<()> {
    let _lock = lock::shared()?;
    let mut mox = Mox::start(Shape::Single)?;
    let path = mox.config_dir().join("domains.toml");
    let good = std::fs::read_to_string(&path)?;
    // A broken file changes nothing, and is complained about.
    std::fs::write(&path, format!("nonsense = true\n{good}"))?;
    let done = mox.try_command(&["config", "domain", "add", "example.test", "mox"], "")?;
    ensure!(
        !done.status.success() && output(&done).contains("nonsense"),
        "{}",
        output(&done)
    );
    ensure!(mox.process("mox")?.exited()?.is_none(), "it ended");
    mox.login()?;
    std::fs::write(&path, good)?;
    wait::until("the mended configuration to be taken", Duration::from_secs(60), || {
        mox.command(&["config", "domain", "add", "example.test", "mox"])
            .map(Some)
    })?;
    Ok(())
}
