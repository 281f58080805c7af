//! Clients: those of others, and line-wise ones for what others would not do.

mod deflate;
mod imap;
mod lines;
mod others;
mod response;
mod smtp;
mod tls;
mod tmux;

pub use imap::Imap;
pub use lines::{Lines, Transport};
pub use others::{base64, curl, output, python, succeed, swaks};
pub use response::{Node, parse_response, parse_set};
pub use smtp::{Reply, Smtp};
pub use tmux::Tmux;
