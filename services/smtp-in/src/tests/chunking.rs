//! BDAT (RFC 3030).

use super::*;

const BEGIN: &str = "MAIL FROM:<a@remote.example>\r\nRCPT TO:<mox@localhost>\r\n";

fn delivered(client: &Client) -> Option<Bytes> {
    let request = client.store.0.lock().delivered.pop()?;
    let Where::Inline(content) = request.content?.r#where? else {
        panic!("not inline")
    };
    Some(content)
}

#[tokio::test]
async fn chunks_make_a_message() {
    let mut client = Client::greeted(false).await;
    // All at once: chunks have no replies to wait for.
    let sent =
        format!("{BEGIN}BDAT 14\r\nSubject: x\r\n\r\nBDAT 7\r\n.\r\n..\r\nBDAT 0\r\nBDAT 4 LAST\r\nNOOPNOOP\r\n");
    assert_eq!(client.codes(&sent, 7).await, [250; 7]);
    // No dot is special, and the last line gets its end.
    assert_eq!(
        &delivered(&client).unwrap()[..],
        b"Subject: x\r\n\r\n.\r\n..\r\nNOOP\r\n"
    );
    let sent = format!("{BEGIN}BDAT 3 last\r\na\r\nBDAT 0 LAST\r\nQUIT\r\n");
    assert_eq!(client.codes(&sent, 5).await, [250, 250, 250, 503, 221]);
    assert_eq!(&delivered(&client).unwrap()[..], b"a\r\n");
}

#[tokio::test]
async fn chunks_are_read_whatever_is_wrong() {
    let mut client = Client::greeted(false).await;
    // No transaction, no recipients, and in the midst of DATA's way.
    assert_eq!(client.codes("BDAT 6 LAST\r\nQUIT\r\n", 1).await, [503]);
    assert_eq!(
        client.codes("MAIL FROM:<a@b>\r\nBDAT 6\r\nQUIT\r\nRSET\r\n", 3).await,
        [250, 554, 250]
    );
    let sent =
        format!("{BEGIN}BDAT 6\r\nQUIT\r\nDATA\r\nRCPT TO:<second@localhost>\r\nMAIL FROM:<>\r\nRSET\r\nNOOP\r\n");
    assert_eq!(client.codes(&sent, 8).await, [250, 250, 250, 503, 503, 503, 250, 250]);
    // Bare line ends are no lines, and what follows a refusal is refused until RSET, or the last chunk.
    let sent = format!("{BEGIN}BDAT 4\r\na\nb\nBDAT 3\r\nx\r\nBDAT 3 LAST\r\nx\r\nMAIL FROM:<>\r\n");
    assert_eq!(client.codes(&sent, 6).await, [250, 250, 554, 503, 503, 250]);
    assert_eq!(delivered(&client), None);
}

#[tokio::test]
async fn large_chunks_are_refused_and_larger_ones_not_read() {
    let mut client = Client::greeted(false).await;
    let half = "x".repeat(600_000);
    let sent = format!("{BEGIN}BDAT 600000\r\n{half}");
    assert_eq!(client.codes(&sent, 3).await, [250; 3]);
    assert_eq!(
        client.codes(&format!("BDAT 600000 LAST\r\n{half}NOOP\r\n"), 2).await,
        [552, 250]
    );
    assert_eq!(
        client.codes(&format!("{BEGIN}BDAT 10000000000 LAST\r\nabc"), 3).await,
        [250, 250, 552]
    );
    assert!(client.is_closed().await);
    for wrong in [
        "BDAT",
        "BDAT x",
        "BDAT 1 LAST 2",
        "BDAT -1",
        "BDAT 99999999999999999999",
    ] {
        let mut client = Client::greeted(false).await;
        assert_eq!(
            client.codes(&format!("{BEGIN}{wrong}\r\nQUIT\r\n"), 3).await,
            [250, 250, 501],
            "{wrong}"
        );
        assert!(client.is_closed().await);
    }
}
