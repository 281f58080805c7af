//! What waits for which destination, and how much goes there at once.
//!
//! Every destination has a lane. A lane begins narrow, widens with every attempt that reaches a host, and narrows when
//! none does: so hosts that hang hold few of the sessions, whatever waits for them. What is more than a lane should
//! hold is left in, or goes back to, the queue.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Sessions with one destination at once.
pub const LANE_MAX: usize = 20;
/// Sessions with a destination of which nothing is known yet.
pub const LANE_FIRST: usize = 2;
/// Groups that wait in a lane for each session that it may have, from which on no more are asked for.
const LANE_ENOUGH: usize = 2;
/// A lane all of whose sessions got nowhere for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// Groups that wait in a lane, over which further ones go back to the queue.
const LANE_FULL: usize = 400;
/// Sources that the store is told not to give us more of.
const BUSY_MAX: usize = 4096;

/// What waits in a lane.
pub trait Waiting {
    /// Where it goes.
    type Destination: Hash + Eq + Clone;
    /// Where it comes from, as the store knows it.
    type Source: Ord + Clone;
    /// Sessions of this process at once.
    const SESSIONS: usize;

    /// Of what the store is told not to give us more, while the lane has enough.
    fn source(&self) -> Self::Source;

    /// Of what the store is told not to give us more, while the lane has enough, even if nothing of it waits.
    fn source_of(_: &Self::Destination) -> Option<Self::Source> {
        None
    }

    /// How wide a lane begins.
    fn width(_: &Self::Destination) -> usize {
        LANE_FIRST
    }
}

struct Lane<W> {
    active: usize,
    width: usize,
    waiting: VecDeque<W>,
    /// When a session last began or ended.
    moved: Instant,
}

impl<W> Lane<W> {
    fn is_stuck(&self) -> bool {
        self.active >= self.width && self.moved.elapsed() >= STUCK
    }

    /// Whether no more is wanted.
    fn is_busy(&self) -> bool {
        self.waiting.len() >= self.width * LANE_ENOUGH || self.is_stuck()
    }
}

/// All lanes.
pub struct Lanes<W: Waiting> {
    lanes: HashMap<W::Destination, Lane<W>>,
    active: usize,
}

impl<W: Waiting> Default for Lanes<W> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            active: 0,
        }
    }
}

impl<W: Waiting> Lanes<W> {
    /// Adds a group; gives it back if its lane is full.
    pub fn add(&mut self, destination: W::Destination, group: W) -> Result<(), W> {
        let width = W::width(&destination);
        let lane = self.lanes.entry(destination).or_insert_with(|| Lane {
            width,
            active: 0,
            waiting: VecDeque::new(),
            moved: Instant::now(),
        });
        if lane.waiting.len() >= LANE_FULL {
            return Err(group);
        }
        lane.waiting.push_back(group);
        Ok(())
    }

    /// What can begin now. Each is to be ended with [`Lanes::done`].
    pub fn start(&mut self) -> Vec<(W::Destination, W)> {
        let mut started = Vec::new();
        // One of each in turn, so that the sessions that are left are shared.
        loop {
            let before = started.len();
            for (destination, lane) in &mut self.lanes {
                if self.active < W::SESSIONS
                    && lane.active < lane.width
                    && let Some(group) = lane.waiting.pop_front()
                {
                    lane.active += 1;
                    lane.moved = Instant::now();
                    self.active += 1;
                    started.push((destination.clone(), group));
                }
            }
            if started.len() == before {
                return started;
            }
        }
    }

    /// An attempt ended, and reached a host or not.
    pub fn done(&mut self, destination: &W::Destination, reached: bool) {
        self.active -= 1;
        let Some(lane) = self.lanes.get_mut(destination) else {
            return;
        };
        lane.active -= 1;
        lane.moved = Instant::now();
        lane.width = if reached {
            (lane.width + 1).min(LANE_MAX)
        } else {
            (lane.width / 2).max(1)
        };
        if lane.active == 0 && lane.waiting.is_empty() {
            self.lanes.remove(destination);
        }
    }

    /// Whether a lane is so full that a next claim might be for nothing.
    pub fn crowded(&self) -> bool {
        self.lanes.values().any(|lane| lane.waiting.len() > LANE_FULL / 2)
    }

    /// Whether no more is wanted for a destination now.
    pub fn is_busy(&self, destination: &W::Destination) -> bool {
        self.lanes.get(destination).is_some_and(Lane::is_busy)
    }

    /// Whether anything waits for its turn.
    pub fn waits(&self) -> bool {
        self.lanes.values().any(|lane| !lane.waiting.is_empty())
    }

    /// Takes what waits for hosts that hang: while it is in hand, there is less room for others.
    pub fn shed(&mut self) -> Vec<W> {
        let stuck = self.lanes.values_mut().filter(|lane| lane.is_stuck());
        stuck.flat_map(|lane| lane.waiting.drain(..)).collect()
    }

    /// Of what no more is wanted now.
    pub fn busy(&self) -> Vec<W::Source> {
        let mut busy = BTreeSet::new();
        for (destination, lane) in self.lanes.iter().filter(|(_, lane)| lane.is_busy()) {
            busy.extend(lane.waiting.iter().map(Waiting::source));
            busy.extend(W::source_of(destination));
        }
        busy.into_iter().take(BUSY_MAX).collect()
    }

    /// Takes everything that has not begun.
    pub fn drain(&mut self) -> Vec<W> {
        self.lanes
            .values_mut()
            .flat_map(|lane| lane.waiting.drain(..))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Group;
    use crate::route::Destination;

    fn group(domain: &str) -> Group {
        Group {
            domain: domain.to_owned(),
            claims: Vec::new(),
        }
    }

    fn to(domain: &str) -> Destination {
        Destination::Domain {
            domain: domain.parse().unwrap(),
            transport: None,
        }
    }

    #[test]
    fn lanes_begin_narrow_and_widen_with_success() {
        let mut lanes = Lanes::<Group>::default();
        for _ in 0..LANE_FULL {
            lanes.add(to("a.example"), group("a.example")).unwrap();
        }
        assert!(lanes.add(to("a.example"), group("a.example")).is_err());
        lanes.add(to("b.example"), group("b.example")).unwrap();
        assert_eq!(lanes.busy(), ["a.example"]);
        assert_eq!(lanes.start().len(), 3, "two and one");
        for width in 3..=LANE_MAX {
            lanes.done(&to("a.example"), true);
            lanes.start();
            assert_eq!(lanes.lanes[&to("a.example")].active, width);
        }
        for _ in 0..LANE_MAX {
            lanes.done(&to("a.example"), false);
        }
        assert_eq!(lanes.start().len(), 1, "one at a time for who does not answer");
        lanes.done(&to("b.example"), true);
        assert!(!lanes.lanes.contains_key(&to("b.example")));
    }

    #[test]
    fn many_that_hang_leave_room_for_others() {
        let mut lanes = Lanes::<Group>::default();
        for n in 0..Group::SESSIONS / LANE_FIRST - 1 {
            for _ in 0..50 {
                lanes.add(to(&format!("hangs{n}.example")), group("x")).unwrap();
            }
        }
        lanes.start();
        lanes.add(to("good.example"), group("good.example")).unwrap();
        assert_eq!(lanes.start().len(), 1);
    }
    #[tokio::test(start_paused = true)]
    async fn what_waits_for_hosts_that_hang_is_given_back() {
        let mut lanes = Lanes::<Group>::default();
        for _ in 0..5 {
            lanes.add(to("hangs.example"), group("hangs.example")).unwrap();
        }
        assert_eq!(lanes.start().len(), LANE_FIRST);
        assert!(lanes.shed().is_empty());
        tokio::time::advance(STUCK).await;
        assert_eq!(lanes.shed().len(), 5 - LANE_FIRST);
        assert_eq!(lanes.busy(), ["hangs.example"], "no more of it is wanted");
        lanes.done(&to("hangs.example"), false);
        assert!(lanes.busy().is_empty(), "it moves");
    }
}
