//! Senders that do not wait for the answer to their message, which comes late when they are not known, and send it again:
//! it is there once.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::python;
use mox_integration_tests::{Mox, Shape, USER, free_ip};

in_both_shapes!(what_is_sent_again_comes_once);

const RECORDS: &str = "
sender.example TXT v=spf1 ip4:127.0.0.0/8 -all
sender.example MX 10 mx.sender.example
mx.sender.example A 127.0.0.1
1.0.0.127.in-addr.arpa PTR mx.sender.example
";

/// How long strangers wait.
const DELAY: &str = "4s";

/// Sends a message, and leaves in one way or another. Prints what it was still told.
const CLIENT: &str = r#"
import smtplib, socket, ssl, struct, sys
host, port, to, how = sys.argv[1:]
s = smtplib.SMTP(host, int(port), "client.example", timeout=30)
if how.startswith("tls"):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert s.starttls(context=context)[0] == 220
s.ehlo_or_helo_if_needed()
assert s.mail("joe@sender.example")[0] == 250
assert s.rcpt(to)[0] == 250
assert s.docmd("data")[0] == 354
s.send("From: <joe@sender.example>\r\nSubject: once\r\nMessage-ID: <once@sender.example>\r\n\r\nhello\r\n.\r\n")
if how == "reset":
    s.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
elif how == "tls-goodbye":
    try:
        s.sock.unwrap()
    except OSError:
        pass
elif how == "half":
    s.send("QUIT\r\n")
    s.sock.shutdown(socket.SHUT_WR)
    print(s.file.read().decode())
elif how in ("stay", "tls-stay"):
    s.send("NOOP\r\nQUIT\r\n")
    print(s.file.read().decode())
s.close()
"#;

fn what_is_sent_again_comes_once(shape: Shape) -> Result<()> {
    let (mut mox, _dns) = Mox::prepare_host(shape, free_ip(), RECORDS)?;
    mox.edit_config(|config| {
        config["listeners"]["local"]["smtp"]["first_time_sender_delay"] = toml_edit::value(DELAY);
    })?;
    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?;
    std::fs::write(&domains, text.replace("no_first_time_sender_delay = true\n", ""))?;
    mox.start_first()?;
    let (host, port) = (mox.smtp().ip().to_string(), mox.smtp().port().to_string());
    let send = |how: &str| {
        let said = python(CLIENT, &[&host, &port, USER, how]);
        said.with_context(|| format!("{how}\n{}", mox.log_tails()))
    };
    for how in ["close", "reset", "tls-close", "tls-goodbye"] {
        let said = send(how)?;
        ensure!(said.is_empty(), "{how}: {said}");
    }
    // Who has only said that there is nothing more is told that it was for nothing.
    let said = send("half")?;
    ensure!(
        said.starts_with("421 4.4.2 ") && said.trim_end().lines().count() == 1,
        "{said}"
    );
    // Who stays is served, and by then the others would be in too.
    for (n, how) in ["stay", "tls-stay"].into_iter().enumerate() {
        let said = send(how)?;
        let codes: Vec<&str> = said.lines().filter_map(|line| line.get(..3)).collect();
        ensure!(codes == ["250", "250", "221"], "{how}: {said}");
        let there = mox.login()?.examine("INBOX")?;
        ensure!(there == n + 1, "{there} messages after {how}\n{}", mox.log_tails());
    }
    Ok(())
}
