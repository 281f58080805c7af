//! What became of a message, for each RCPT and for all of them together.

use std::collections::BTreeMap;

use mox_smtp::Reply;

/// What happened by RCPT. A list has several copies, and is served if one of its members is.
#[derive(Default)]
pub(crate) struct Outcomes {
    rcpts: BTreeMap<usize, Rcpt>,
}

#[derive(Default)]
struct Rcpt {
    served: bool,
    refused: Option<Reply>,
}

impl Outcomes {
    /// With the RCPTs that are refused already.
    pub(crate) fn of(refused: Vec<(usize, Reply)>) -> Self {
        let mut outcomes = Self::default();
        for (rcpt, reply) in refused {
            outcomes.refuse(rcpt, reply);
        }
        outcomes
    }

    /// A copy was delivered.
    pub(crate) fn serve(&mut self, rcpt: usize) {
        self.rcpts.entry(rcpt).or_default().served = true;
    }

    /// A copy was refused. One that may be taken later counts before one that never is.
    pub(crate) fn refuse(&mut self, rcpt: usize, reply: Reply) {
        let refused = &mut self.rcpts.entry(rcpt).or_default().refused;
        if refused
            .as_ref()
            .is_none_or(|known| known.is_permanent() && reply.is_temporary())
        {
            *refused = Some(reply);
        }
    }

    /// RCPTs of which nobody got a copy, and why.
    pub(crate) fn failed(&self) -> impl Iterator<Item = (usize, &Reply)> {
        let failed = self.rcpts.iter().filter(|(_, outcome)| !outcome.served);
        failed.filter_map(|(rcpt, outcome)| Some((*rcpt, outcome.refused.as_ref()?)))
    }

    /// RCPTs of which somebody got a copy.
    pub(crate) fn served(&self) -> impl Iterator<Item = usize> {
        self.rcpts
            .iter()
            .filter(|(_, outcome)| outcome.served)
            .map(|(rcpt, _)| *rcpt)
    }

    /// Whether some copy was delivered, or is to be.
    pub(crate) fn is_served(&self) -> bool {
        self.rcpts.values().any(|rcpt| rcpt.served)
    }

    /// The refusal for all, if nobody got a copy. If some might later, the client tries again.
    pub(crate) fn refusal(&self) -> Option<&Reply> {
        if self.is_served() {
            return None;
        }
        let first = |temporary: bool| {
            let mut failed = self.failed().map(|(_, reply)| reply);
            failed.find(|reply| reply.is_temporary() == temporary)
        };
        first(true).or_else(|| first(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16) -> Reply {
        Reply::new(code, (0, 0), "x")
    }

    #[test]
    fn some_who_get_it_are_enough() {
        let mut outcomes = Outcomes::of(vec![(0, reply(550))]);
        assert_eq!(outcomes.refusal().map(|r| r.code), Some(550));
        outcomes.refuse(1, reply(451));
        assert_eq!(
            outcomes.refusal().map(|r| r.code),
            Some(451),
            "the client may try again"
        );
        outcomes.serve(2);
        assert_eq!(outcomes.refusal(), None);
        let failed: Vec<_> = outcomes.failed().map(|(rcpt, r)| (rcpt, r.code)).collect();
        assert_eq!(failed, [(0, 550), (1, 451)]);
        assert_eq!(outcomes.served().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_list_is_served_if_one_member_is() {
        let mut outcomes = Outcomes::default();
        outcomes.refuse(0, reply(550));
        outcomes.refuse(0, reply(452));
        outcomes.refuse(0, reply(551));
        assert_eq!(outcomes.refusal().map(|r| r.code), Some(452));
        outcomes.serve(0);
        assert_eq!(outcomes.failed().count(), 0);
    }

    #[test]
    fn nobody_is_refused_where_nobody_is_left() {
        // A list whose only members are addressed besides.
        assert_eq!(Outcomes::default().refusal(), None);
    }
}
