//! REFERENCES (RFC 5256 §3): trees of what replies refer to, joined where subjects say so.
//!
//! The steps have the numbers of the standard. Trees may be as deep as there are messages, so nothing here recurses.

use std::collections::HashMap;

use super::ids::{self, Ids};
use super::{Member, Node};

/// Steps towards the root that looking for loops may take in all. Real mail needs a few for each message; messages that
/// are made to cost more get fewer links.
const LOOP_STEPS: u64 = 50_000_000;

/// A message, or a dummy for one that is not there.
struct Container<'a> {
    member: Option<&'a Member<'a>>,
    reply: bool,
    parent: Option<usize>,
    children: Vec<usize>,
}

struct Forest<'a> {
    all: Vec<Container<'a>>,
    steps: u64,
}

/// Threads of messages, which are given in the order of their UIDs.
pub(crate) fn by_references(members: &[Member<'_>]) -> Vec<Node> {
    let mut forest = Forest {
        all: Vec::with_capacity(members.len()),
        steps: LOOP_STEPS,
    };
    forest.link(members);
    let roots = forest.gather();
    let roots = forest.prune(roots);
    let roots = forest.join_subjects(roots);
    forest.write(roots)
}

impl<'a> Forest<'a> {
    fn add(&mut self, member: Option<&'a Member<'a>>, reply: bool) -> usize {
        self.all.push(Container {
            member,
            reply,
            parent: None,
            children: Vec::new(),
        });
        self.all.len() - 1
    }

    /// Step 1: links by references.
    fn link(&mut self, members: &'a [Member<'a>]) {
        let read: Vec<Ids<'a>> = members.iter().map(|m| ids::decode(m.ids)).collect();
        let mut known: HashMap<&[u8], usize> = HashMap::with_capacity(members.len());
        // All messages first, so that an id is its message's wherever in the mailbox that is. One whose id another had
        // before, or that has none, gets a container that nobody can refer to.
        let own: Vec<usize> = members
            .iter()
            .zip(&read)
            .map(|(member, ids)| {
                let container = self.add(Some(member), ids.reply);
                if let Some(id) = ids.own {
                    known.entry(id).or_insert(container);
                }
                container
            })
            .collect();
        for (current, ids) in own.into_iter().zip(read) {
            // (A) Each reference is the parent of the next, unless that has one.
            let mut last: Option<usize> = None;
            for id in ids.references {
                let next = match known.get(id) {
                    Some(container) => *container,
                    None => {
                        let dummy = self.add(None, false);
                        known.insert(id, dummy);
                        dummy
                    }
                };
                if let Some(parent) = last
                    && self.all[next].parent.is_none()
                    && !self.would_loop(parent, next)
                {
                    self.all[next].parent = Some(parent);
                }
                last = Some(next);
            }
            // (B) The last is the parent of the message, whatever was thought before.
            self.all[current].parent = None;
            if let Some(parent) = last
                && !self.would_loop(parent, current)
            {
                self.all[current].parent = Some(parent);
            }
        }
    }

    /// Whether `parent` is `child`, or below it.
    fn would_loop(&mut self, parent: usize, child: usize) -> bool {
        let mut at = Some(parent);
        while let Some(here) = at {
            if here == child || self.steps == 0 {
                return true;
            }
            self.steps -= 1;
            at = self.all[here].parent;
        }
        false
    }

    /// Step 2: what has no parent; and lists of children.
    fn gather(&mut self) -> Vec<usize> {
        let mut roots = Vec::new();
        for n in 0..self.all.len() {
            match self.all[n].parent {
                Some(parent) => self.all[parent].children.push(n),
                None => roots.push(n),
            }
        }
        roots
    }

    /// Step 3: dummies go, and their children take their places; those of roots only if it is one.
    fn prune(&mut self, roots: Vec<usize>) -> Vec<usize> {
        for n in self.bottom_up(&roots) {
            let children = std::mem::take(&mut self.all[n].children);
            let mut kept = Vec::with_capacity(children.len());
            for child in children {
                if self.all[child].member.is_some() {
                    kept.push(child);
                } else {
                    kept.append(&mut self.all[child].children);
                }
            }
            self.all[n].children = kept;
        }
        let place = |root: usize| {
            let container = &self.all[root];
            match (container.member, container.children.as_slice()) {
                (None, []) => None,
                (None, [only]) => Some(*only),
                _ => Some(root),
            }
        };
        roots.into_iter().filter_map(place).collect()
    }

    /// All below some roots and they themselves, children before their parents.
    fn bottom_up(&self, roots: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = roots.to_vec();
        let mut at = 0;
        while at < order.len() {
            order.extend_from_slice(&self.all[order[at]].children);
            at += 1;
        }
        order.reverse();
        order
    }

    /// The message that stands for a root: itself, or a dummy's first child, whose children are sorted.
    fn first(&self, root: usize) -> Option<&'a Member<'a>> {
        let container = &self.all[root];
        container
            .member
            .or_else(|| container.children.first().and_then(|c| self.all[*c].member))
    }

    /// By date, and then by place in the mailbox.
    fn sort(&self, list: &mut [usize]) {
        list.sort_by_cached_key(|n| self.first(*n).map(|m| (m.date, m.uid)));
    }

    fn sort_children(&mut self, parent: usize) {
        let mut children = std::mem::take(&mut self.all[parent].children);
        self.sort(&mut children);
        self.all[parent].children = children;
    }

    /// Steps 4 and 5: threads with the same subject become one.
    fn join_subjects(&mut self, mut roots: Vec<usize>) -> Vec<usize> {
        // Step 4.
        for root in &roots {
            if self.all[*root].member.is_none() {
                self.sort_children(*root);
            }
        }
        self.sort(&mut roots);
        let subject = |forest: &Self, root: usize| forest.first(root).map(|m| m.subject).filter(|s| !s.is_empty());
        // Step 5 (B): of each subject a dummy, or else what is no reply, or else the first.
        let mut table: HashMap<&[u8], usize> = HashMap::new();
        for &root in &roots {
            let Some(subject) = subject(self, root) else { continue };
            let entry = table.entry(subject).or_insert(root);
            let (theirs, ours) = (&self.all[*entry], &self.all[root]);
            if theirs.member.is_some() && (ours.member.is_none() || (theirs.reply && !ours.reply)) {
                *entry = root;
            }
        }
        // Step 5 (C).
        let mut joined = Vec::with_capacity(roots.len());
        // Roots that went below another.
        let mut below = vec![false; self.all.len()];
        for &root in &roots {
            // The subject of a dummy must be asked for before it gets other children.
            let Some(subject) = subject(self, root) else {
                joined.push(root);
                continue;
            };
            let Some(&other) = table.get(subject) else { continue };
            if other == root {
                joined.push(root);
                continue;
            }
            let (ours, theirs) = (&self.all[root], &self.all[other]);
            match (ours.member.is_none(), theirs.member.is_none()) {
                (true, true) => {
                    let mut children = std::mem::take(&mut self.all[root].children);
                    self.all[other].children.append(&mut children);
                }
                (false, true) => self.all[other].children.push(root),
                (false, false) if ours.reply && !theirs.reply => self.all[other].children.push(root),
                _ => {
                    let dummy = self.add(None, false);
                    self.all[dummy].children = vec![other, root];
                    below.push(false);
                    below[other] = true;
                    joined.push(dummy);
                    table.insert(subject, dummy);
                }
            }
        }
        joined.retain(|root| !below[*root]);
        joined
    }

    /// Step 6: siblings in order; and the trees as they are answered.
    fn write(&mut self, mut roots: Vec<usize>) -> Vec<Node> {
        for n in self.bottom_up(&roots) {
            self.sort_children(n);
        }
        self.sort(&mut roots);
        let mut nodes = Vec::with_capacity(self.all.len());
        let mut left: Vec<(usize, u32)> = roots.into_iter().rev().map(|root| (root, 0)).collect();
        while let Some((n, depth)) = left.pop() {
            let container = &self.all[n];
            nodes.push(Node {
                uid: container.member.map_or(0, |m| m.uid),
                depth,
            });
            left.extend(container.children.iter().rev().map(|child| (*child, depth + 1)));
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::mail::thread::tests::written;

    /// Messages by id, references, subject and whether it is a reply, and date; UIDs from 1.
    fn thread(messages: &[(&str, &str, &str, i64)]) -> Vec<Node> {
        let prepared: Vec<(Vec<u8>, String, i64)> = messages
            .iter()
            .map(|(id, references, subject, date)| {
                let field = |names: &str| {
                    names
                        .split_whitespace()
                        .map(|n| format!("<{n}@x> "))
                        .collect::<String>()
                };
                let (base, reply) = mox_message::base_subject(subject);
                let mut text = Vec::new();
                ids::encode(
                    reply,
                    Some(field(id).as_bytes()),
                    Some(field(references).as_bytes()),
                    None,
                    &mut text,
                );
                (text, base, *date)
            })
            .collect();
        let members: Vec<Member<'_>> = (1..)
            .zip(&prepared)
            .map(|(uid, (ids, subject, date))| Member {
                uid,
                date: *date,
                subject: subject.as_bytes(),
                ids,
            })
            .collect();
        by_references(&members)
    }

    fn text(messages: &[(&str, &str, &str, i64)]) -> String {
        written(&thread(messages))
    }

    #[test]
    fn replies_are_below_what_they_answer() {
        // The tree of RFC 5256 §4: 2 alone, 3 with 6, which has 4 and 44.
        let messages = [
            ("two", "", "2", 1),
            ("three", "", "3", 2),
            ("six", "three", "x", 3),
            ("four", "three six", "y", 4),
            ("23", "three six four", "z", 5),
            ("44", "six", "a", 6),
            ("7", "44", "b", 7),
            ("96", "44 7", "c", 8),
        ];
        assert_eq!(text(&messages), "(1)(2 3 (4 5)(6 7 8))");
        // Parents may come later in the mailbox.
        assert_eq!(text(&[("b", "a", "x", 1), ("a", "", "y", 2)]), "(2 1)");
    }

    #[test]
    fn what_is_missing_leaves_no_trace_but_at_the_top() {
        // RFC 5256 §4: ((3)(5)), siblings of a message that is not there.
        assert_eq!(text(&[("a", "gone", "x", 1), ("b", "gone", "y", 2)]), "((1)(2))");
        // An only child takes the place.
        assert_eq!(text(&[("a", "gone lost", "x", 1)]), "(1)");
        // Below a message, children are spliced in.
        assert_eq!(
            text(&[("r", "", "x", 1), ("a", "r gone", "y", 2), ("b", "r gone", "z", 3)]),
            "(1 (2)(3))"
        );
        // A dummy below a dummy.
        assert_eq!(
            text(&[("a", "g h", "x", 1), ("b", "g h", "y", 2), ("c", "g", "z", 3)]),
            "((1)(2)(3))"
        );
    }

    #[test]
    fn subjects_join_threads() {
        for (messages, want) in [
            // A reply goes below what is none.
            (&[("a", "", "hi", 1), ("b", "", "Re: hi", 2)][..], "(1 2)"),
            (&[("a", "", "Re: hi", 1), ("b", "", "Hi", 2)], "(2 1)"),
            // Equals become siblings.
            (&[("a", "", "hi", 1), ("b", "", "hi", 2)], "((1)(2))"),
            (
                &[("a", "", "Re: hi", 1), ("b", "", "Re: hi", 2), ("c", "", "Re: hi", 3)],
                "((1)(2)(3))",
            ),
            // What has no subject is joined with nothing.
            (&[("a", "", "", 1), ("b", "", "Re:", 2)], "(1)(2)"),
            // A dummy takes a message in, and the children of another dummy.
            (
                &[("a", "gone", "hi", 1), ("b", "gone", "x", 2), ("c", "", "hi", 3)],
                "((1)(2)(3))",
            ),
            (
                &[
                    ("a", "gone", "hi", 1),
                    ("b", "gone", "x", 2),
                    ("c", "lost", "hi", 3),
                    ("d", "lost", "y", 4),
                ],
                "((1)(2)(3)(4))",
            ),
        ] {
            assert_eq!(text(messages), want, "{messages:?}");
        }
    }

    #[test]
    fn truncated_references_are_mended() {
        // (B): b is a child of a, whatever c's references said of it.
        let messages = [("a", "", "1", 1), ("c", "z b", "2", 2), ("b", "a", "3", 3)];
        assert_eq!(text(&messages), "(1 3 2)");
        // No references: no parent any more.
        assert_eq!(
            text(&[("c", "a b", "1", 1), ("b", "", "2", 2), ("a", "", "3", 3)]),
            "(2 1)(3)"
        );
    }

    #[test]
    fn there_are_no_loops_and_ids_are_used_once() {
        assert_eq!(text(&[("a", "b", "1", 1), ("b", "a", "2", 2)]), "(2 1)");
        assert_eq!(text(&[("a", "a", "1", 1)]), "(1)");
        // The second message with an id is nobody's parent.
        assert_eq!(
            text(&[("a", "", "1", 1), ("a", "", "2", 2), ("b", "a", "3", 3)]),
            "(1 3)(2)"
        );
    }

    #[test]
    fn siblings_are_by_date_and_place() {
        let messages = [
            ("r", "", "1", 9),
            ("a", "r", "2", 5),
            ("b", "r", "3", 4),
            ("c", "r", "4", 4),
            ("q", "", "5", 1),
        ];
        assert_eq!(text(&messages), "(5)(1 (3)(4)(2))");
    }

    #[test]
    fn deep_threads_are_no_danger() {
        let names: Vec<String> = (0..50_000).map(|n| format!("m{n}")).collect();
        let none = String::new();
        for backwards in [false, true] {
            let messages: Vec<(&str, &str, &str, i64)> = (0..names.len())
                .map(|n| {
                    let n = if backwards { names.len() - 1 - n } else { n };
                    let parent = if n == 0 { &none } else { &names[n - 1] };
                    (names[n].as_str(), parent.as_str(), "", n as i64)
                })
                .collect();
            let start = std::time::Instant::now();
            let nodes = thread(&messages);
            assert_eq!(nodes.len(), names.len());
            assert!(start.elapsed().as_secs() < 20);
        }
    }

    proptest! {
        #[test]
        fn every_message_is_there_once(messages in prop::collection::vec(
            ("[a-e]", prop::collection::vec("[a-h]", 0..4), prop::sample::select(vec!["", "s", "Re: s", "t", "Re: t"]), 0i64..4), 0..14)) {
            let owned: Vec<(String, String, &str, i64)> =
                messages.into_iter().map(|(id, refs, subject, date)| (id, refs.join(" "), subject, date)).collect();
            let list: Vec<(&str, &str, &str, i64)> =
                owned.iter().map(|(id, refs, subject, date)| (id.as_str(), refs.as_str(), *subject, *date)).collect();
            let nodes = thread(&list);
            let uids: Vec<u32> = nodes.iter().map(|n| n.uid).filter(|uid| *uid != 0).collect();
            prop_assert_eq!(uids.len(), list.len());
            prop_assert_eq!(uids.into_iter().collect::<BTreeSet<_>>().len(), list.len());
            for (n, node) in nodes.iter().enumerate() {
                // A dummy is at the top, and has two children at least.
                if node.uid == 0 {
                    prop_assert_eq!(node.depth, 0);
                    let children = nodes[n + 1..].iter().take_while(|m| m.depth > 0).filter(|m| m.depth == 1).count();
                    prop_assert!(children >= 2);
                }
                prop_assert!(n == 0 || node.depth <= nodes[n - 1].depth + 1);
            }
        }
    }
}
