//! THREAD (RFC 5256). The store makes the threads.

use bytes::{BufMut, BytesMut};
use mox_imap_proto::sort::{Algorithm, Thread};
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::{ThreadAlgorithm, ThreadRequest};

use crate::commands::{limit, uid_required};
use crate::enabled::Extension;
use crate::progress::Progress;
use crate::reply::{Outcome, Reply};
use crate::searching::{asks_modseq, translate, within};
use crate::session::Session;

/// Places in the trees between looks at how much was gathered.
const PART: usize = 4096;

pub(super) async fn run(session: &mut Session, tag: &str, thread: &Thread, uid: bool) -> Outcome {
    session.selected()?;
    if session.enabled.uidonly && !uid {
        return Err(uid_required().into());
    }
    if asks_modseq(&thread.key) {
        session.enable(Extension::CondStore);
    }
    let selected = session.selected()?;
    let algorithm = match thread.algorithm {
        Algorithm::OrderedSubject => ThreadAlgorithm::Orderedsubject,
        Algorithm::References => ThreadAlgorithm::References,
    };
    let request = ThreadRequest {
        session: session.token()?,
        mailbox_id: selected.id.clone(),
        key: Some(within(
            &limit(selected.view.uids()).set,
            translate(&thread.key, selected)?,
        )),
        algorithm: algorithm.into(),
    };
    let mut mail = session.shared.mail();
    let mut progress = Progress::new(tag, 0);
    let connection = &mut session.connection;
    let mut pages = progress.during(connection, mail.thread(request)).await??.into_inner();
    let mut nodes: Vec<Node> = Vec::new();
    while let Some(page) = progress.during(&mut session.connection, pages.message()).await?? {
        nodes.extend(page.uids.into_iter().zip(page.depths).map(|(number, depth)| Node {
            number,
            depth,
            children: 0,
        }));
    }
    if !uid {
        let view = &session.selected()?.view;
        for node in &mut nodes {
            // The set that was asked for is the view's; what was expunged since is still in it.
            node.number = view.number_of(node.number).unwrap_or_default();
        }
    }
    count_children(&mut nodes);
    let out = &mut session.connection.out;
    out.put_slice(b"* THREAD");
    if !nodes.is_empty() {
        out.put_u8(b' ');
    }
    let mut writer = Writer::default();
    for part in nodes.chunks(PART) {
        for node in part {
            writer.write(*node, &mut session.connection.out);
        }
        session.connection.flush_if_large().await?;
    }
    writer.end(&mut session.connection.out);
    session.connection.out.put_slice(b"\r\n");
    Ok(Reply::ok("Done"))
}

/// A place in a tree, before its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    /// 0 if no message is here, but several below.
    number: u32,
    depth: u32,
    children: u32,
}

fn count_children(nodes: &mut [Node]) {
    // The places that are above the current one.
    let mut above: Vec<usize> = Vec::new();
    for n in 0..nodes.len() {
        above.truncate(nodes[n].depth as usize);
        if let Some(parent) = above.last() {
            nodes[*parent].children += 1;
        }
        above.push(n);
    }
}

/// Writes trees (RFC 5256 §4): a message and its only child stand side by side, several children each in parentheses.
#[derive(Default)]
struct Writer {
    /// Of each level: whether a parenthesis was opened, whether there is a number, and how many children there are.
    open: Vec<(bool, bool, u32)>,
    /// The parent has just been written.
    first: bool,
}

impl Writer {
    fn write(&mut self, node: Node, out: &mut BytesMut) {
        self.close(node.depth as usize, out);
        let (number, siblings) = self.open.last().map_or((false, 2), |o| (o.1, o.2));
        let nested = siblings > 1;
        if self.first && number {
            out.put_u8(b' ');
        }
        if nested {
            out.put_u8(b'(');
        }
        if node.number > 0 {
            put_number(out, u64::from(node.number));
        }
        self.open.push((nested, node.number > 0, node.children));
        self.first = true;
    }

    fn close(&mut self, depth: usize, out: &mut BytesMut) {
        while self.open.len() > depth {
            if let Some((true, ..)) = self.open.pop() {
                out.put_u8(b')');
            }
            self.first = false;
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.close(0, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nodes: &[(u32, u32)]) -> String {
        let mut nodes: Vec<Node> = nodes
            .iter()
            .map(|&(number, depth)| Node {
                number,
                depth,
                children: 0,
            })
            .collect();
        count_children(&mut nodes);
        let mut out = BytesMut::new();
        let mut writer = Writer::default();
        for node in nodes {
            writer.write(node, &mut out);
        }
        writer.end(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn threads_are_written_as_in_the_standard() {
        // The examples of RFC 5256 §4, and parts of those of §3.
        let trees = [(2, 0), (3, 0), (6, 1), (4, 2), (23, 3), (44, 2), (7, 3), (96, 4)];
        assert_eq!(text(&trees), "(2)(3 6 (4 23)(44 7 96))");
        assert_eq!(text(&[(0, 0), (3, 1), (5, 1)]), "((3)(5))");
        let trees = [
            (0, 0),
            (177, 1),
            (183, 1),
            (188, 1),
            (184, 2),
            (189, 2),
            (185, 1),
            (186, 2),
        ];
        assert_eq!(text(&trees), "((177)(183)(188 (184)(189))(185 186))");
        assert_eq!(text(&[(196, 0), (197, 1), (198, 1), (199, 0)]), "(196 (197)(198))(199)");
        assert_eq!(text(&[]), "");
    }
}
