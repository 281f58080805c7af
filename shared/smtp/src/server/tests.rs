use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::data::{DataDecoder, Fault, Lines};

const IDLE: Duration = Duration::from_secs(5);

/// A connection whose client sends these pieces, each by its own write, and then closes.
async fn connection(pieces: Vec<Vec<u8>>) -> Connection<DuplexStream> {
    let (mut client, server) = duplex(16);
    tokio::spawn(async move {
        for piece in pieces {
            client.write_all(&piece).await.unwrap();
        }
    });
    Connection::new(server, IDLE)
}

#[tokio::test]
async fn lines_come_however_they_were_cut() {
    for piece in 1..10 {
        let sent = b"EHLO a\r\nMAIL FROM:<>\r\n\r\nlf\nc\rr\r\nlast\r\nrest";
        let mut c = connection(sent.chunks(piece).map(<[u8]>::to_vec).collect()).await;
        assert_eq!(c.read_line(20).await.unwrap(), b"EHLO a");
        assert_eq!(c.read_line(20).await.unwrap(), b"MAIL FROM:<>");
        assert_eq!(c.read_line(20).await.unwrap(), b"");
        assert!(matches!(c.read_line(20).await, Err(ReadError::LineEnd)));
        assert!(matches!(c.read_line(20).await, Err(ReadError::LineEnd)));
        assert_eq!(c.read_line(20).await.unwrap(), b"last");
        assert!(matches!(c.read_line(20).await, Err(ReadError::Closed)));
    }
}

#[tokio::test]
async fn lines_that_are_too_long_are_passed_over() {
    for (length, ok) in [(18, true), (19, false), (5000, false), (60_000, false)] {
        let mut c = connection(vec![vec![b'a'; length], b"\r\nNOOP\r\n".to_vec()]).await;
        match c.read_line(20).await {
            Ok(line) => assert!(ok && line.len() == length),
            Err(error) => assert!(!ok && matches!(error, ReadError::TooLong(20)), "{length} {error}"),
        }
        assert_eq!(c.read_line(20).await.unwrap(), b"NOOP");
    }
    let mut c = connection(vec![vec![b'a'; 200_000]]).await;
    assert!(matches!(c.read_line(20).await, Err(ReadError::Endless)));
}

#[tokio::test]
async fn replies_wait_until_there_is_nothing_to_read() {
    let (mut client, server) = duplex(1024);
    let mut c = Connection::new(server, IDLE);
    client.write_all(b"NOOP\r\nNOOP\r\nNO").await.unwrap();
    for _ in 0..2 {
        assert_eq!(c.read_line(20).await.unwrap(), b"NOOP");
        c.reply(&Reply::plain(250, "ok"));
    }
    assert!(c.has_input());
    // Nothing was written as yet.
    let mut buffer = [0; 64];
    assert!(
        timeout(Duration::from_millis(20), client.read(&mut buffer))
            .await
            .is_err()
    );
    // Giving up a read loses neither input nor output.
    assert!(timeout(Duration::from_millis(20), c.read_line(20)).await.is_err());
    let n = client.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..n], b"250 ok\r\n250 ok\r\n");
    client.write_all(b"OP\r\n").await.unwrap();
    assert_eq!(c.read_line(20).await.unwrap(), b"NOOP");
}

#[tokio::test]
async fn a_client_that_is_silent_times_out() {
    let (_client, server) = duplex(64);
    let mut c = Connection::new(server, Duration::from_millis(10));
    assert!(matches!(c.read_line(20).await, Err(ReadError::Timeout)));
}

#[tokio::test]
async fn data_ends_and_commands_go_on() {
    for piece in [1, 2, 3, 7, 1000] {
        let sent = b"Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n";
        let mut c = connection(sent.chunks(piece).map(<[u8]>::to_vec).collect()).await;
        let mut decoder = DataDecoder::new(Lines::Strict);
        let mut message = Vec::new();
        while let Some(data) = c.read_data(&mut decoder).await.unwrap() {
            message.extend_from_slice(data);
        }
        assert_eq!(message, b"Subject: x\r\n\r\n.dot\r\n");
        assert_eq!(c.read_line(20).await.unwrap(), b"QUIT");
    }
    let mut c = connection(vec![b"a\nb\r\n.\rc\r\n.\r\n".to_vec()]).await;
    let mut decoder = DataDecoder::new(Lines::Mend);
    let mut message = Vec::new();
    while let Some(data) = c.read_data(&mut decoder).await.unwrap() {
        message.extend_from_slice(data);
    }
    assert_eq!(
        (message, decoder.fault()),
        (b"a\r\nb\r\n\rc\r\n".to_vec(), Some(Fault::BareCr))
    );
}

#[tokio::test]
async fn who_leaves_is_noticed_and_what_it_sent_is_kept() {
    let mut c = connection(vec![b"a\r\n".to_vec(), b"b".to_vec(), b"b\r\n".to_vec()]).await;
    assert_eq!(c.read_line(20).await.unwrap(), b"a");
    assert!(matches!(c.left().await, ReadError::Closed));
    assert_eq!(c.read_line(20).await.unwrap(), b"bb");
    assert!(matches!(c.read_line(20).await, Err(ReadError::Closed)));
    // Of what is more, no more is taken in.
    let mut c = connection(vec![b"NOOP\r\n".repeat(20_000)]).await;
    assert!(timeout(Duration::from_millis(50), c.left()).await.is_err());
    assert!(c.input.len() <= 2 * limits::READ, "{}", c.input.len());
    for _ in 0..20_000 {
        assert_eq!(c.read_line(20).await.unwrap(), b"NOOP");
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_is_noticed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let mut c = Connection::new(server, IDLE);
    let left = tokio::spawn(async move { c.left().await });
    client.set_zero_linger().unwrap();
    drop(client);
    assert!(matches!(left.await.unwrap(), ReadError::Io(_)));
}
