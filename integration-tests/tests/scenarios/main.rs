//! What users do, with the clients that they have, against both shapes of the system.
//!
//! Each module is a scenario, named for what it shows. `single` is `mox localserve`, `pieces` is all services as
//! processes. Run one with `cargo test -p mox-integration-tests --test scenarios delivery`.

use mox_integration_tests::{Shape, lock};

/// Makes a test of each scenario for each shape.
macro_rules! in_both_shapes {
    ($($(#[$attribute:meta])* $scenario:ident),+ $(,)?) => {
        mod single {
            $($(#[$attribute])* #[test]
            fn $scenario() -> anyhow::Result<()> {
                let _lock = crate::lock::shared()?;
                super::$scenario(crate::Shape::Single)
            })+
        }
        mod pieces {
            $($(#[$attribute])* #[test]
            fn $scenario() -> anyhow::Result<()> {
                let _lock = crate::lock::shared()?;
                super::$scenario(crate::Shape::Pieces)
            })+
        }
    };
}

/// As `in_both_shapes`, for scenarios that need the machine for themselves.
macro_rules! in_both_shapes_alone {
    ($($scenario:ident),+ $(,)?) => {
        mod single {
            $(#[test]
            fn $scenario() -> anyhow::Result<()> {
                let _lock = crate::lock::alone()?;
                super::$scenario(crate::Shape::Single)
            })+
        }
        mod pieces {
            $(#[test]
            fn $scenario() -> anyhow::Result<()> {
                let _lock = crate::lock::alone()?;
                super::$scenario(crate::Shape::Pieces)
            })+
        }
    };
}

mod abuse;
mod administration;
mod archives;
mod bad_input;
mod broken_services;
mod certificates;
mod compressing;
mod deciding;
mod delivery;
mod full_disk;
mod injection;
mod kill;
mod leaving;
mod limits;
mod many_connections;
mod migrating;
mod mutt;
mod offlineimap;
mod owning;
mod peers;
mod queue_commands;
mod queue_filters;
mod queue_kills;
mod reading;
mod report_bombs;
mod reports;
mod retiring;
mod routes;
mod searching;
mod sending;
mod sendmail;
mod signing;
mod special_localparts;
mod starting;
mod stopping;
mod strangers;
mod submission;
mod synchronizing;
mod transports;
mod webhooks;
