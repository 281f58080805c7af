//! COMPRESS (RFC 4978): from here on both sides send compressed.

use crate::reply::{Outcome, Reply, Stop};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str, algorithm: &str) -> Outcome {
    session.login()?;
    if algorithm != "DEFLATE" {
        return Err(Reply::no("The algorithm is DEFLATE").into());
    }
    if session.compressed {
        return Err(Reply::no("Compression is on already").code("COMPRESSIONACTIVE").into());
    }
    let tables = session.shared.tables.clone();
    let connection = &mut session.connection;
    // RFC 4978 §3: the reply is the last that is not compressed.
    Reply::ok("Compression is on").write(tag, &mut connection.out);
    connection.flush().await?;
    connection.compress(tables).map_err(Stop::Closed)?;
    session.compressed = true;
    Ok(Reply::silent())
}
