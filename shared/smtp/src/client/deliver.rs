//! One message to its recipients.

use std::io;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use mox_types::Address;

use super::{Client, ClientError};
use crate::data::DataEncoder;
use crate::limits;
use crate::reply::Reply;

/// Commands that are sent at once with PIPELINING. RFC 2920 §3.1: no more than what surely fits the server's window,
/// since both sides could wait for each other to read.
const PIPELINED: usize = 50;

/// An envelope, and what is known of the message.
#[derive(Debug, Clone, Copy)]
pub struct Transaction<'a> {
    /// None is the null reverse-path.
    pub mail_from: Option<&'a Address>,
    /// At least one.
    pub recipients: &'a [TransactionRecipient<'a>],
    /// Octets.
    pub size: u64,
    /// The message has octets over 127.
    pub eight_bit: bool,
    /// Headers or addresses of the message need SMTPUTF8.
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689): only to a server that heeds it.
    pub requiretls: bool,
    /// RET of DSN (RFC 3461): "FULL" or "HDRS". Not sent if the server has no DSN, like the next ones.
    pub ret: Option<&'a str>,
    /// ENVID of DSN, as xtext.
    pub envid: Option<&'a str>,
}

/// One recipient.
#[derive(Debug, Clone, Copy)]
pub struct TransactionRecipient<'a> {
    /// Who.
    pub address: &'a Address,
    /// NOTIFY of DSN.
    pub notify: Option<&'a str>,
    /// ORCPT of DSN: type, ";", xtext.
    pub orcpt: Option<&'a str>,
}

impl Client {
    /// Sends a message, and answers with one reply for each recipient: the one to its RCPT if that refused it, else
    /// the one to the whole message.
    ///
    /// `content` is the message, in pieces of any size. Before its end is sent, `still_wanted` is asked: if it says no,
    /// nothing was delivered, and the connection is of no more use.
    ///
    /// # Errors
    /// What concerns all recipients: the server can't take this message, refused the sender or the message as such, or
    /// the session failed. After an error within or after the last octet, whether the message was delivered is unknown.
    pub async fn deliver(
        &mut self,
        transaction: &Transaction<'_>,
        content: BoxStream<'_, io::Result<Bytes>>,
        still_wanted: impl FnOnce() -> bool + Send,
    ) -> Result<Vec<Reply>, ClientError> {
        let utf8 = self.check(transaction)?;
        if self.open {
            self.reset().await?;
        }
        let envelope = self.envelope(transaction, utf8);
        self.open = true;
        let (replies, data) = if self.extensions().pipelining {
            self.pipelined(&envelope).await?
        } else {
            self.one_by_one(&envelope).await?
        };
        let accepted = replies.iter().any(Reply::is_success);
        let Some(data) = data else {
            // Nobody was accepted, so DATA was not sent.
            return Ok(replies);
        };
        if data.code != 354 {
            if accepted {
                return Err(ClientError::Refused {
                    during: "DATA",
                    reply: data,
                });
            }
            return Ok(replies);
        }
        if !accepted {
            // RFC 2920 §3.1: the server wants a message, although it refused every recipient: it gets an empty one.
            self.wire.write("DATA", b".\r\n", self.timeouts.data_block).await?;
            self.wire.reply("DATA", self.timeouts.data_end).await?;
            return Ok(replies);
        }
        self.message(content, still_wanted).await?;
        let end = self.wire.reply("end of message", self.timeouts.data_end).await?;
        self.open = false;
        Ok(replies
            .into_iter()
            .map(|reply| if reply.is_success() { end.clone() } else { reply })
            .collect())
    }

    /// Whether the server can take the message; answers whether SMTPUTF8 is to be used.
    fn check(&self, transaction: &Transaction<'_>) -> Result<bool, ClientError> {
        let extensions = self.extensions();
        let international = |a: &Address| a.is_international();
        let needed = transaction.smtputf8
            || transaction.mail_from.is_some_and(international)
            || transaction.recipients.iter().any(|r| r.address.is_international());
        if needed && !extensions.smtputf8 {
            return Err(ClientError::Unsupported {
                what: "SMTPUTF8",
                code: (6, 7),
            });
        }
        // RFC 6152 §3: not to be sent. Converting would break signatures.
        if (transaction.eight_bit || needed) && !extensions.eight_bit_mime {
            return Err(ClientError::Unsupported {
                what: "8BITMIME",
                code: (6, 3),
            });
        }
        if transaction.requiretls && !(extensions.requiretls && self.tls().is_some()) {
            return Err(ClientError::Unsupported {
                what: "REQUIRETLS",
                code: (7, 30),
            });
        }
        match extensions.size {
            Some(limit) if limit > 0 && transaction.size > limit => Err(ClientError::TooLarge {
                size: transaction.size,
                limit,
            }),
            _ => Ok(needed),
        }
    }

    fn envelope(&self, transaction: &Transaction<'_>, utf8: bool) -> Vec<String> {
        let extensions = self.extensions();
        let written = |a: &Address| if utf8 { a.to_string() } else { a.to_ascii_domain() };
        let mut mail = format!("MAIL FROM:<{}>", transaction.mail_from.map(written).unwrap_or_default());
        if extensions.size.is_some() {
            mail.push_str(&format!(" SIZE={}", transaction.size));
        }
        if extensions.eight_bit_mime && transaction.eight_bit {
            mail.push_str(" BODY=8BITMIME");
        }
        if utf8 {
            mail.push_str(" SMTPUTF8");
        }
        if transaction.requiretls {
            mail.push_str(" REQUIRETLS");
        }
        let parameter = |line: &mut String, name: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|v| extensions.dsn && is_value(v)) {
                line.push_str(&format!(" {name}={value}"));
            }
        };
        parameter(&mut mail, "RET", transaction.ret);
        parameter(&mut mail, "ENVID", transaction.envid);
        let mut lines = vec![mail];
        for recipient in transaction.recipients {
            let mut rcpt = format!("RCPT TO:<{}>", written(recipient.address));
            parameter(&mut rcpt, "NOTIFY", recipient.notify);
            parameter(&mut rcpt, "ORCPT", recipient.orcpt);
            lines.push(rcpt);
        }
        lines
    }

    /// MAIL, every RCPT and DATA, answered one by one. Replies to RCPT, and the one to DATA if it was sent.
    async fn one_by_one(&mut self, envelope: &[String]) -> Result<(Vec<Reply>, Option<Reply>), ClientError> {
        let mut replies = Vec::with_capacity(envelope.len());
        for (i, line) in envelope.iter().enumerate() {
            let during = if i == 0 { "MAIL FROM" } else { "RCPT TO" };
            let reply = self.command(during, line).await?;
            match i {
                0 if !reply.is_success() => return Err(ClientError::Refused { during, reply }),
                0 => {}
                _ => replies.push(reply),
            }
        }
        if !replies.iter().any(Reply::is_success) {
            return Ok((replies, None));
        }
        self.wire.send("DATA", self.timeouts.command).await?;
        let data = self.wire.reply("DATA", self.timeouts.data_start).await?;
        Ok((replies, Some(data)))
    }

    /// The same, with all of them sent at once (RFC 2920).
    async fn pipelined(&mut self, envelope: &[String]) -> Result<(Vec<Reply>, Option<Reply>), ClientError> {
        let mut replies = Vec::with_capacity(envelope.len());
        let mut refused = None;
        let groups = envelope.len().div_ceil(PIPELINED);
        let mut data = None;
        for (g, group) in envelope.chunks(PIPELINED).enumerate() {
            let last = g + 1 == groups;
            let mut lines = group.join("\r\n");
            if last {
                lines.push_str("\r\nDATA");
            }
            self.wire.send(&lines, self.timeouts.command).await?;
            for i in 0..group.len() {
                let is_mail = g == 0 && i == 0;
                let during = if is_mail { "MAIL FROM" } else { "RCPT TO" };
                let reply = self.wire.reply(during, self.timeouts.command).await?;
                if !is_mail {
                    replies.push(reply);
                } else if !reply.is_success() {
                    refused = Some(reply);
                }
            }
            if last {
                data = Some(self.wire.reply("DATA", self.timeouts.data_start).await?);
            }
        }
        let Some(reply) = refused else {
            return Ok((replies, data));
        };
        if data.is_some_and(|d| d.code == 354) {
            // It refused the sender, and still wants a message. Nothing good would come of going on.
            self.wire.set_broken();
        }
        Err(ClientError::Refused {
            during: "MAIL FROM",
            reply,
        })
    }

    /// The message and its end.
    async fn message(
        &mut self,
        mut content: BoxStream<'_, io::Result<Bytes>>,
        still_wanted: impl FnOnce() -> bool + Send,
    ) -> Result<(), ClientError> {
        let mut encoder = DataEncoder::new();
        let mut out = Vec::with_capacity(2 * limits::READ);
        // Without the end, whatever happens, nothing is delivered: the connection must not be used again.
        self.wire.set_broken();
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(ClientError::Content)?;
            for part in piece.chunks(limits::READ) {
                encoder.encode(part, &mut out);
                if out.len() >= limits::READ {
                    self.wire.write("message", &out, self.timeouts.data_block).await?;
                    out.clear();
                }
            }
        }
        if !still_wanted() {
            return Err(ClientError::Abandoned);
        }
        encoder.finish(&mut out);
        self.wire.write("message", &out, self.timeouts.data_block).await?;
        self.wire.mend();
        Ok(())
    }
}

/// Whether it can be a parameter's value: nothing in it ends the parameter or the line (RFC 5321 §4.1.2).
fn is_value(s: &str) -> bool {
    !s.is_empty() && s.chars().all(|c| (c.is_ascii_graphic() && c != '=') || !c.is_ascii())
}
