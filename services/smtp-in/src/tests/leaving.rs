//! Clients that do not wait for what becomes of their message.

use super::*;

/// Longer than the test: the clock has to be moved on for it to end.
const DELAY: u32 = 15_000;

/// A client whose message was decided about, and which waits, with this behind the message.
async fn waiting(behind: &str) -> Client {
    let mut client = Client::with(Setup {
        clock_stands: true,
        ..Setup::default()
    });
    client.store.0.lock().delay = DELAY;
    assert_eq!(client.codes("EHLO client.example\r\n", 2).await, [220, 250]);
    assert_eq!(client.codes(ENVELOPE, 3).await, [250, 250, 354]);
    client
        .stream
        .write_all(format!("Subject: x\r\n\r\nx\r\n.\r\n{behind}").as_bytes())
        .await
        .unwrap();
    let decided = async {
        while client.store.0.lock().assessed == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), decided).await.expect("it is decided");
    client
}

#[tokio::test]
async fn who_leaves_before_it_is_taken_has_sent_nothing() {
    for behind in ["", "QUIT\r\n"] {
        let mut client = waiting(behind).await;
        // Its sending side only, so that it is seen what it would be told.
        client.stream.shutdown().await.unwrap();
        let rest = client.rest().await;
        assert!(rest.starts_with("421 4.4.2 "), "{behind:?}: {rest}");
        assert_eq!(rest.lines().count(), 1, "{rest}");
        client.hand.advance(Duration::from_secs(60));
        assert!(client.store.0.lock().delivered.is_empty());
    }
}

#[tokio::test]
async fn who_waits_is_served_whatever_it_sends_meanwhile() {
    // More than is kept of what comes in advance.
    for behind in [
        String::new(),
        "NOOP\r\n".repeat(3),
        format!("NOOP {}\r\n", "x".repeat(60)).repeat(900),
    ] {
        let mut client = waiting(&behind).await;
        assert!(client.store.0.lock().delivered.is_empty());
        client.hand.advance(Duration::from_millis(DELAY.into()));
        let replies = 1 + behind.lines().count();
        assert_eq!(client.codes("", replies).await, vec![250; replies]);
        assert_eq!(client.store.0.lock().delivered.len(), 1);
    }
}
