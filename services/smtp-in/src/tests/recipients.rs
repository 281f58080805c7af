//! Who gets a message, who is told, and what nobody learns.

use super::*;

/// From the address that SPF of example.org passes for.
async fn zoned() -> Client {
    let mut client = Client::zoned();
    assert_eq!(client.codes("EHLO mx.example.org\r\n", 2).await, [220, 250]);
    client
}

fn begin(mail_from: &str, to: &[&str]) -> String {
    let rcpts: String = to.iter().map(|to| format!("RCPT TO:<{to}@localhost>\r\n")).collect();
    format!("MAIL FROM:<{mail_from}>\r\n{rcpts}")
}

fn data(from: &str) -> String {
    format!("DATA\r\nFrom: <{from}>\r\nSubject: hi\r\n\r\nhi\r\n.\r\n")
}

/// Addresses that got the message, and those that the sender is told of.
fn delivered(client: &Client) -> (Vec<String>, Vec<(String, u32)>) {
    let Some(request) = client.store.0.lock().delivered.pop() else {
        return Default::default();
    };
    let to = |d: &api::Delivery| d.recipient.clone().unwrap().address;
    let told = |f: &api::NotifiedRecipient| (f.rcpt_to.clone(), f.smtp_code);
    (
        request.deliveries.iter().map(to).collect(),
        request.notified.iter().map(told).collect(),
    )
}

#[tokio::test]
async fn who_exists_is_not_told_before_there_is_a_message() {
    let mut client = Client::greeted(false).await;
    assert_eq!(client.codes(&begin("a@b.example", &["nobody"]), 2).await, [250, 250]);
    let (codes, seconds) = client.timed(&data("a@b.example"), 2).await;
    assert_eq!(codes, [354, 550]);
    assert!(seconds >= 5, "{seconds}");
    // From then on, each reply is late.
    let (codes, seconds) = client.timed("NOOP\r\nNOOP\r\n", 2).await;
    assert_eq!(codes, [250, 250]);
    assert!(seconds >= 2, "{seconds}");
    assert!(client.store.0.lock().delivered.is_empty());
    // Those who send to nobody again and again are sent away.
    let mut all = Vec::new();
    while all.last() != Some(&421) {
        let sent = format!("{}{}", begin("a@b.example", &["nobody"]), data("a@b.example"));
        let more = client.codes(&sent, 4).await;
        all.extend(more);
        assert!(all.len() < 400);
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn one_recipient_for_who_is_not_known_to_be_the_sender() {
    let mut client = zoned().await;
    let both = ["mox", "second"];
    // SPF passes, fails, has no record; notifications.
    for (mail_from, codes) in [
        ("a@example.org", [250, 250, 250]),
        ("a@other.example", [250, 250, 452]),
        ("a@spfslow.example", [250, 250, 452]),
        ("", [250, 250, 452]),
    ] {
        assert_eq!(client.codes(&begin(mail_from, &both), 3).await, codes, "{mail_from}");
        assert_eq!(client.codes(&data("x@example.org"), 2).await, [354, 250]);
        let (to, told) = delivered(&client);
        assert_eq!(
            (to.len(), told.len()),
            (codes.iter().filter(|c| **c == 250).count() - 1, 0)
        );
    }
    // Whoever they are: nothing is learned by it.
    let replies = client
        .exchange(&begin("a@other.example", &["mox", "nobody", "full"]), 4)
        .await;
    assert!(replies[2..].iter().all(|r| r.starts_with("452 4.5.3")), "{replies:?}");
}

#[tokio::test]
async fn senders_that_could_get_no_answer_are_refused() {
    let mut client = zoned().await;
    for (mail_from, start) in [
        ("a@null.example", "550 5.7.27"),
        ("a@bare.example", "550 5.7.27"),
        ("a@nothing.example", "550 5.7.27"),
        ("a@slow.example", "451 4.4.3"),
        ("a@other.example", "250"),
    ] {
        let replies = client
            .exchange(&format!("MAIL FROM:<{mail_from}>\r\nRSET\r\n"), 2)
            .await;
        assert!(replies[0].starts_with(start), "{mail_from}: {replies:?}");
    }
    assert_eq!(
        client
            .codes("MAIL FROM:<a@[192.0.2.1]>\r\nRSET\r\nMAIL FROM:<>\r\n", 3)
            .await,
        [250; 3]
    );
}

#[tokio::test]
async fn the_sender_is_told_of_those_who_got_nothing() {
    let mut client = zoned().await;
    client.store.0.lock().refuses = vec![("second@localhost".into(), 550), ("third@localhost".into(), 451)];
    let to = ["mox", "nobody", "second", "third"];
    assert_eq!(client.codes(&begin("a@example.org", &to), 5).await, [250; 5]);
    assert_eq!(client.codes(&data("a@example.org"), 2).await, [354, 250]);
    let (to, told) = delivered(&client);
    assert_eq!(to, ["mox@localhost"]);
    let failed = |to: &str, code| (format!("{to}@localhost"), code);
    assert_eq!(
        told,
        [failed("nobody", 550), failed("second", 550), failed("third", 451)]
    );
    // If nobody gets it, the reply says so; that it may work later, if it may for one.
    assert_eq!(
        client.codes(&begin("a@example.org", &["second", "nobody"]), 3).await,
        [250; 3]
    );
    assert_eq!(client.codes(&data("a@example.org"), 2).await, [354, 550]);
    assert_eq!(
        client.codes(&begin("a@example.org", &["second", "third"]), 3).await,
        [250; 3]
    );
    assert_eq!(client.codes(&data("a@example.org"), 2).await, [354, 451]);
    assert_eq!(delivered(&client).0, Vec::<String>::new());
}

#[tokio::test]
async fn lists_are_for_members_that_are_who_they_say() {
    let mut client = zoned().await;
    for (list, mail_from, from, code, to) in [
        ("list", "a@example.org", "a@example.org", 550, vec![]),
        // Says to be a member, and is not.
        ("list", "a@example.org", "mox@localhost", 550, vec![]),
        (
            "public",
            "a@example.org",
            "a@example.org",
            250,
            vec!["mox@localhost", "second@localhost"],
        ),
    ] {
        assert_eq!(client.codes(&begin(mail_from, &[list]), 2).await, [250; 2]);
        assert_eq!(client.codes(&data(from), 2).await, [354, code], "{list} {from}");
        assert_eq!(delivered(&client).0, to);
    }
    // A member gets no copy of what it sends; here nobody looks at who sends.
    let mut client = Client::greeted(false).await;
    assert_eq!(client.codes(&begin("a@b.example", &["list"]), 2).await, [250; 2]);
    assert_eq!(client.codes(&data("mox@localhost"), 2).await, [354, 250]);
    assert_eq!(delivered(&client).0, ["second@localhost"]);
}

#[tokio::test]
async fn what_was_delivered_here_before_goes_in_circles() {
    let mut client = Client::greeted(false).await;
    for (field, code) in [("mox@localhost", 554), ("second@localhost", 250)] {
        assert_eq!(client.codes(&begin("a@b.example", &["mox"]), 2).await, [250; 2]);
        let sent = format!("DATA\r\nDelivered-To: {field}\r\nSubject: x\r\n\r\nx\r\n.\r\n");
        assert_eq!(client.codes(&sent, 2).await, [354, code]);
    }
}

#[tokio::test]
async fn tls_is_required_but_for_reports_about_it() {
    let mut client = Client::with(Setup {
        require_starttls: true,
        ..Setup::default()
    });
    assert_eq!(client.codes("EHLO x.example\r\n", 2).await, [220, 250]);
    let sent = begin("a@b.example", &["mox", "tls"]);
    assert_eq!(client.codes(&sent, 3).await, [250, 530, 250]);
    assert_eq!(client.codes(&data("a@b.example"), 2).await, [354, 250]);
    assert_eq!(delivered(&client).0, ["tls@localhost"]);
    assert_eq!(
        client
            .codes(&format!("{}DATA\r\n", begin("a@b.example", &["mox"])), 3)
            .await,
        [250, 530, 554]
    );
}

#[tokio::test]
async fn networks_have_their_limits() {
    let mut client = Client::with(Setup {
        limits: Some(mox_config::ServiceLimits {
            messages_per_minute: [2, 0, 0],
            bytes_per_day: [1000, 0, 0],
            ..mox_config::ServiceLimits::none()
        }),
        ..Setup::default()
    });
    assert_eq!(client.codes("EHLO x.example\r\n", 2).await, [220, 250]);
    for _ in 0..2 {
        assert_eq!(client.codes(&begin("a@b.example", &["mox"]), 2).await, [250; 2]);
        assert_eq!(client.codes(&data("a@b.example"), 2).await, [354, 250]);
    }
    let replies = client.exchange("MAIL FROM:<a@b.example>\r\n", 1).await;
    assert!(replies[0].starts_with("451 4.4.5 too many messages"), "{replies:?}");
}

#[tokio::test]
async fn clients_that_only_talk_are_sent_away() {
    let mut client = Client::greeted(false).await;
    let mut codes = Vec::new();
    for last in [false, true] {
        codes.extend(client.codes(&"NOOP\r\n".repeat(500), 500 + usize::from(last)).await);
    }
    assert_eq!((codes.len(), codes.last()), (1001, Some(&421)));
    assert!(client.is_closed().await);
    // Fifty thousand recipients are not too much to say no to.
    let mut client = Client::greeted(true).await;
    assert_eq!(client.codes("MAIL FROM:<a@b.example>\r\n", 1).await, [250]);
    let mut codes = Vec::new();
    for n in 0..50 {
        let rcpts: String = (0..1000).map(|m| format!("RCPT TO:<u{n}x{m}@localhost>\r\n")).collect();
        codes.extend(client.codes(&rcpts, 1000).await);
    }
    assert_eq!(codes.iter().filter(|code| **code == 250).count(), 1000);
    assert_eq!(codes.iter().filter(|code| **code == 452).count(), 49_000);
    assert_eq!(client.codes("QUIT\r\n", 1).await, [221]);
}

#[tokio::test]
async fn pedantry_is_a_setting() {
    let mut client = Client::with(Setup {
        pedantic: true,
        ..Setup::default()
    });
    assert_eq!(client.codes("EHLO x.example\r\n", 2).await, [220, 250]);
    assert_eq!(client.codes("MAIL FROM: <a@b.example>\r\n", 1).await, [501]);
    assert_eq!(client.codes(&begin("a@b.example", &["mox"]), 2).await, [250; 2]);
    assert_eq!(
        client.codes(&data("a@b.example"), 2).await,
        [354, 554],
        "it has no date"
    );
}
