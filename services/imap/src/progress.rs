//! Telling a client that waits that work goes on (RFC 9585).

use std::time::Duration;

use bytes::BufMut;
use mox_imap_proto::write::{put_number, put_string};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::reply::Stop;

/// RFC 9585 §3 suggests 10 to 15 seconds: clients give up after 30 and more.
const EVERY: Duration = Duration::from_secs(10);

/// Of one command.
pub(crate) struct Progress<'t> {
    tag: &'t str,
    next: Instant,
    /// How many messages are done, of how many.
    pub done: u64,
    pub goal: u64,
}

impl<'t> Progress<'t> {
    /// Of the command with this tag, on so many messages; 0 if that is not known.
    pub(crate) fn new(tag: &'t str, goal: u64) -> Self {
        Self {
            tag,
            next: Instant::now() + EVERY,
            done: 0,
            goal,
        }
    }

    /// Waits for a part of the work, telling now and then that it goes on.
    pub(crate) async fn during<T>(
        &mut self,
        connection: &mut Connection,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep_until(self.next) => {
                    self.next = Instant::now() + EVERY;
                    self.write(&mut connection.out);
                    connection.flush().await?;
                }
            }
        }
    }

    fn write(&self, out: &mut impl BufMut) {
        out.put_slice(b"* OK [INPROGRESS (");
        put_string(out, self.tag.as_bytes(), false);
        if self.goal == 0 {
            out.put_slice(b" NIL NIL");
        } else {
            out.put_u8(b' ');
            put_number(out, self.done.min(self.goal));
            out.put_u8(b' ');
            put_number(out, self.goal);
        }
        out.put_slice(b")] Still working\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told() {
        let (ours, theirs) = tokio::io::duplex(4096);
        let mut connection = Connection::new(Box::new(ours));
        let mut progress = Progress::new("a1", 10);
        let done = progress.during(&mut connection, async { 1 }).await.unwrap();
        assert_eq!((done, connection.out.len()), (1, 0));
        progress.done = 4;
        let long = tokio::time::sleep(Duration::from_secs(25));
        progress.during(&mut connection, long).await.unwrap();
        drop(connection);
        let mut told = String::new();
        let mut theirs = theirs;
        tokio::io::AsyncReadExt::read_to_string(&mut theirs, &mut told)
            .await
            .unwrap();
        assert_eq!(
            told,
            "* OK [INPROGRESS (\"a1\" 4 10)] Still working\r\n".repeat(2),
            "after 10 and 20 seconds"
        );
    }
}
