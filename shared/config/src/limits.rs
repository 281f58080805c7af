//! Limits on clients.

use crate::section::section;

/// A limit for one address, for its network, and for the wider network around that: /32, /26 and /21 for IPv4, /64, /48
/// and /32 for IPv6. 0 is no limit.
pub type Tiers = [u64; 3];

impl crate::section::Setting for Tiers {
    fn shape() -> crate::section::Shape {
        crate::section::Shape::Leaf(crate::section::Leaf {
            kind: "three numbers, 0 is no limit",
            example: "[30, 90, 270]",
            check: crate::section::check_leaf::<Tiers>,
        })
    }
}

section! {
    /// Limits of one service. Each has three numbers: for an IP address, for its network (IPv4 /26, IPv6 /48), and for
    /// the wider network (IPv4 /21, IPv6 /32). 0 is no limit. An IPv6 address is taken as its /64.
    pub struct ServiceLimits: Default {
        /// Connections at once.
        connections: Tiers [= [30, 90, 270]],
        /// New connections a minute.
        new_connections_per_minute: Tiers [= [300, 900, 2700]],
        /// Failed logins a minute. More are answered late, and then refused.
        failed_logins_per_minute: Tiers [= [10, 30, 90]],
        /// Connections at once that are logged in to one account. 0 is no limit.
        sessions_per_account: u64 [= 500],
        /// Messages a minute.
        messages_per_minute: Tiers [= [500, 1500, 4500]],
        /// Messages a day.
        messages_per_day: Tiers [= [0, 0, 0]],
        /// Bytes of messages a minute.
        bytes_per_minute: Tiers [= [0, 0, 0]],
        /// Bytes of messages a day.
        bytes_per_day: Tiers [= [0, 0, 0]],
    }
}

impl ServiceLimits {
    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self {
            connections: [0; 3],
            new_connections_per_minute: [0; 3],
            failed_logins_per_minute: [0; 3],
            sessions_per_account: 0,
            messages_per_minute: [0; 3],
            messages_per_day: [0; 3],
            bytes_per_minute: [0; 3],
            bytes_per_day: [0; 3],
        }
    }
}
