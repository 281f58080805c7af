//! What waits for which destination, and how much goes there at once.
//!
//! Every destination has a lane. A lane begins narrow, widens with every attempt that reaches a host, and narrows when
//! none does: so hosts that hang hold few of the sessions, whatever waits for them. What is more than a lane should
//! hold is left in, or goes back to, the queue.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::group::Group;
use crate::route::Destination;

/// Sessions of this process at once.
pub const SESSIONS_MAX: usize = 1000;
/// Sessions with one destination at once.
const LANE_MAX: usize = 20;
/// Sessions with a destination of which nothing is known yet.
const LANE_FIRST: usize = 2;
/// Groups that wait in a lane for each session that it may have, from which on no more are asked for.
const LANE_ENOUGH: usize = 2;
/// A lane all of whose sessions got nowhere for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// Groups that wait in a lane, over which further ones go back to the queue.
const LANE_FULL: usize = 400;
/// Domains that the store is told not to give us.
const BUSY_MAX: usize = 4096;

struct Lane {
    active: usize,
    width: usize,
    waiting: VecDeque<Group>,
    /// When a session last began or ended.
    moved: Instant,
}

impl Lane {
    fn is_stuck(&self) -> bool {
        self.active >= self.width && self.moved.elapsed() >= STUCK
    }

    /// Whether no more is wanted.
    fn is_busy(&self) -> bool {
        self.waiting.len() >= self.width * LANE_ENOUGH || self.is_stuck()
    }
}

/// All lanes.
#[derive(Default)]
pub struct Lanes {
    lanes: HashMap<Destination, Lane>,
    active: usize,
}

impl Lanes {
    /// Adds a group; gives it back if its lane is full.
    pub fn add(&mut self, destination: Destination, group: Group) -> Result<(), Group> {
        // What relays for us is ours to use: it need not prove itself.
        let width = if matches!(destination, Destination::Transport(_)) {
            LANE_MAX
        } else {
            LANE_FIRST
        };
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
    pub fn start(&mut self) -> Vec<(Destination, Group)> {
        let mut started = Vec::new();
        // One of each in turn, so that the sessions that are left are shared.
        loop {
            let before = started.len();
            for (destination, lane) in &mut self.lanes {
                if self.active < SESSIONS_MAX
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
    pub fn done(&mut self, destination: &Destination, reached: bool) {
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
    pub fn is_busy(&self, destination: &Destination) -> bool {
        self.lanes.get(destination).is_some_and(Lane::is_busy)
    }

    /// Whether anything waits for its turn.
    pub fn waits(&self) -> bool {
        self.lanes.values().any(|lane| !lane.waiting.is_empty())
    }

    /// Takes what waits for hosts that hang: while it is in hand, there is less room for others.
    pub fn shed(&mut self) -> Vec<Group> {
        let stuck = self.lanes.values_mut().filter(|lane| lane.is_stuck());
        stuck.flat_map(|lane| lane.waiting.drain(..)).collect()
    }

    /// Recipient domains of which no more is wanted now.
    pub fn busy_domains(&self) -> Vec<String> {
        let mut busy = BTreeSet::new();
        for (destination, lane) in self.lanes.iter().filter(|(_, lane)| lane.is_busy()) {
            busy.extend(lane.waiting.iter().map(|group| group.domain.clone()));
            if let Destination::Domain { domain, .. } = destination {
                busy.insert(domain.ascii().to_owned());
            }
        }
        busy.into_iter().take(BUSY_MAX).collect()
    }

    /// Takes everything that has not begun.
    pub fn drain(&mut self) -> Vec<Group> {
        self.lanes
            .values_mut()
            .flat_map(|lane| lane.waiting.drain(..))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut lanes = Lanes::default();
        for _ in 0..LANE_FULL {
            lanes.add(to("a.example"), group("a.example")).unwrap();
        }
        assert!(lanes.add(to("a.example"), group("a.example")).is_err());
        lanes.add(to("b.example"), group("b.example")).unwrap();
        assert_eq!(lanes.busy_domains(), ["a.example"]);
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
        let mut lanes = Lanes::default();
        for n in 0..SESSIONS_MAX / LANE_FIRST - 1 {
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
        let mut lanes = Lanes::default();
        for _ in 0..5 {
            lanes.add(to("hangs.example"), group("hangs.example")).unwrap();
        }
        assert_eq!(lanes.start().len(), LANE_FIRST);
        assert!(lanes.shed().is_empty());
        tokio::time::advance(STUCK).await;
        assert_eq!(lanes.shed().len(), 5 - LANE_FIRST);
        assert_eq!(lanes.busy_domains(), ["hangs.example"], "no more of it is wanted");
        lanes.done(&to("hangs.example"), false);
        assert!(lanes.busy_domains().is_empty(), "it moves");
    }
}
