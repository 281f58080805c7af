//! Receivers of webhooks, each with its manners.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mox_queue_delivery::Dialer;
use mox_smtp::Stream;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::sleep;

/// How a receiver behaves.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A status line without its version, and a text.
    Status(&'static str, &'static str),
    /// To somewhere else.
    Redirect(&'static str),
    /// Takes the request, and never answers.
    Hang,
    /// Answers an octet a second.
    Slow,
    /// 200, and a text without end.
    Endless,
    /// A header without end.
    EndlessHeader,
    /// Closes the connection in place of an answer.
    Close,
    /// No HTTP at all.
    Babble,
}

/// A request that was taken.
#[derive(Debug, Clone)]
pub struct Post {
    pub to: SocketAddr,
    /// The first line and the fields, as they were.
    pub head: String,
    pub body: String,
}

impl Post {
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// All receivers, by address. An unknown address is unreachable.
#[derive(Default)]
pub struct Receivers {
    answers: Mutex<HashMap<IpAddr, Answer>>,
    posts: Arc<Mutex<Vec<Post>>>,
    open: Arc<Mutex<(usize, usize)>>,
}

impl Receivers {
    pub fn set(&self, ip: &str, answer: Answer) {
        self.answers.lock().insert(ip.parse().unwrap(), answer);
    }

    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().clone()
    }

    /// The most connections that there were at once.
    pub fn most_open(&self) -> usize {
        self.open.lock().1
    }
}

#[async_trait]
impl Dialer for Receivers {
    async fn dial(&self, target: SocketAddr, _: Option<SocketAddr>) -> io::Result<Stream> {
        let answer = self.answers.lock().get(&target.ip()).cloned();
        let answer = answer.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(4096);
        let (posts, open) = (self.posts.clone(), self.open.clone());
        {
            let mut open = open.lock();
            open.0 += 1;
            open.1 = open.1.max(open.0);
        }
        tokio::spawn(async move {
            let _ = serve(theirs, target, answer, &posts).await;
            open.lock().0 -= 1;
        });
        Ok(Box::new(ours))
    }
}

async fn serve(mut stream: DuplexStream, to: SocketAddr, answer: Answer, posts: &Mutex<Vec<Post>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    };
    let mut post = Post {
        to,
        head: String::from_utf8_lossy(&bytes[..head]).into_owned(),
        body: String::new(),
    };
    let length: usize = post.field("content-length").unwrap().parse().unwrap();
    while bytes.len() < head + length {
        let n = stream.read(&mut buffer).await?;
        bytes.extend_from_slice(&buffer[..n]);
    }
    post.body = String::from_utf8_lossy(&bytes[head..]).into_owned();
    posts.lock().push(post);
    match answer {
        Answer::Status(status, text) => {
            let length = text.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}");
            stream.write_all(answer.as_bytes()).await
        }
        Answer::Redirect(to) => {
            let answer = format!("HTTP/1.1 307 Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await
        }
        Answer::Hang => {
            // Until it is closed.
            stream.read(&mut buffer).await.map(drop)
        }
        Answer::Slow => {
            for octet in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
                .iter()
                .chain(std::iter::repeat_n(&b'x', 100_000))
            {
                stream.write_all(&[*octet]).await?;
                sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        }
        Answer::Endless => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                .await?;
            loop {
                stream.write_all(&[b'x'; 1024]).await?;
            }
        }
        Answer::EndlessHeader => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream.write_all(b"X-More: and more and more and more\r\n").await?;
            }
        }
        Answer::Close => Ok(()),
        Answer::Babble => stream.write_all(b"220 mail.example ESMTP\r\n").await,
    }
}
