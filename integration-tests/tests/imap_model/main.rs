//! Random commands on several connections, against a model of the mailboxes.
//!
//! One command runs at a time, on one of several sessions of different kinds (plain, CONDSTORE, QRESYNC, UIDONLY). Each session
//! believes what it is told, and nothing else, and checks that it is told by the rules. After each command a further
//! session looks at what is true, and the [model](model) says what must be. Sessions go offline, and resynchronize
//! later with what they remember.
//!
//! Run with `cargo test -p mox-integration-tests --test imap_model`. A failure prints its seed:
//! `MODEL_SEED=1234 MODEL_STEPS=2000` runs the same again.

mod commands;
mod keys;
mod model;
mod session;
mod steps;
mod truth;

use anyhow::{Context, Result};
use mox_integration_tests::{Mox, Shape, lock};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::steps::Play;

const STEPS: usize = 500;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(shape: Shape) -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::start(shape)?;
    let seed = from_environment("MODEL_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let steps = from_environment("MODEL_STEPS").map_or(STEPS, |n| usize::try_from(n).unwrap_or(STEPS));
    let mut play = Play::new(&mox, StdRng::seed_from_u64(seed))?;
    for n in 0..steps {
        play.step()
            .with_context(|| format!("MODEL_SEED={seed} MODEL_STEPS={}\n{}", n + 1, play.transcript()))?;
    }
    play.finish().with_context(|| {
        format!(
            "MODEL_SEED={seed} MODEL_STEPS={steps}, at the end\n{}",
            play.transcript()
        )
    })
}

#[test]
fn single() -> Result<()> {
    run(Shape::Single)
}

#[test]
fn pieces() -> Result<()> {
    run(Shape::Pieces)
}
