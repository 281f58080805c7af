//! Putting messages in threads (RFC 5256 §3).

pub(crate) mod ids;
mod references;

pub(crate) use references::by_references;

/// A message to be put in a thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    pub uid: u32,
    /// When it was sent, or else received.
    pub date: i64,
    /// Its base subject, as it compares.
    pub subject: &'a [u8],
    /// See [`ids`].
    pub ids: &'a [u8],
}

/// A place in a tree; each is before its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// 0 if there is no message here, but several below.
    pub uid: u32,
    /// 0 begins a thread.
    pub depth: u32,
}

/// ORDEREDSUBJECT: messages with the same base subject, by date; the first is above the others.
pub(crate) fn by_subject(members: &[Member<'_>]) -> Vec<Node> {
    let mut sorted: Vec<&Member<'_>> = members.iter().collect();
    sorted.sort_by_key(|m| (m.subject, m.date, m.uid));
    let mut threads: Vec<&[&Member<'_>]> = sorted.chunk_by(|a, b| a.subject == b.subject).collect();
    threads.sort_by_key(|t| t.first().map(|m| (m.date, m.uid)));
    threads
        .into_iter()
        .flat_map(|thread| {
            thread.iter().enumerate().map(|(n, member)| Node {
                uid: member.uid,
                depth: u32::from(n > 0),
            })
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Trees as a THREAD response writes them.
    pub(crate) fn written(nodes: &[Node]) -> String {
        fn tree(nodes: &[Node], out: &mut String) {
            let depth = nodes[0].depth;
            let below: Vec<&[Node]> = {
                let mut starts: Vec<usize> = (1..nodes.len()).filter(|n| nodes[*n].depth == depth + 1).collect();
                starts.push(nodes.len());
                starts.windows(2).map(|w| &nodes[w[0]..w[1]]).collect()
            };
            if nodes[0].uid != 0 {
                out.push_str(&nodes[0].uid.to_string());
                if !below.is_empty() {
                    out.push(' ');
                }
            }
            match below.as_slice() {
                [one] => tree(one, out),
                many => many.iter().for_each(|t| {
                    out.push('(');
                    tree(t, out);
                    out.push(')');
                }),
            }
        }
        let mut out = String::new();
        for thread in nodes.chunk_by(|_, b| b.depth > 0) {
            out.push('(');
            tree(thread, &mut out);
            out.push(')');
        }
        out
    }

    #[test]
    fn subjects_make_flat_threads() {
        let subjects: [(&[u8], i64); 6] = [(b"B", 5), (b"A", 9), (b"B", 3), (b"", 1), (b"A", 9), (b"B", 4)];
        let members: Vec<Member<'_>> = (1..)
            .zip(subjects)
            .map(|(uid, (subject, date))| Member {
                uid,
                date,
                subject,
                ids: b"",
            })
            .collect();
        assert_eq!(written(&by_subject(&members)), "(4)(3 (6)(1))(2 5)");
        assert!(by_subject(&[]).is_empty());
    }
}
