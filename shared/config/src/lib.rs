//! The configuration: `mox.toml`, which is static, and `domains.toml`, which is read again when it changes.
//!
//! Each setting is declared once, as a documented field of a struct. From these declarations come the types that
//! services use, the check of a file that names every unknown field, missing field and wrong value with line and
//! column, and the annotated description that `mox config describe-static` and `describe-domains` print.
//!
//! The dynamic configuration also travels as JSON, as control commits it to the store.

mod account;
mod check;
mod describe;
mod duration;
mod dynamic;
mod fixed;
mod limits;
mod listener;
mod load;
mod lookup;
mod problem;
pub mod section;
mod sendmail;
mod transport;
mod validate;
mod value;
mod web;

pub use account::*;
pub use describe::{describe_dynamic, describe_sendmail, describe_static};
pub use duration::*;
pub use dynamic::*;
pub use fixed::*;
pub use limits::{ServiceLimits, Tiers};
pub use listener::*;
pub use load::{DYNAMIC_FILE, Source, load, load_dynamic, load_static};
pub use lookup::{Index, Lookup, Recipient, ReportKinds};
pub use problem::{ConfigError, FieldPath, Located, Problem, Step};
pub use sendmail::Sendmail;
pub use transport::*;
pub use validate::{account_name_problem, dynamic_problems, references_problems, static_problems};
pub use value::*;
pub use web::*;
