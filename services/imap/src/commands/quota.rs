//! GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208). An account has one quota, of storage, for all its mailboxes: its root is
//! called "". An account without a limit has no root.

use bytes::BufMut;
use mox_imap_proto::acl::Right;
use mox_imap_proto::quota::Quota;
use mox_proto::mail::v1::{GetQuotaRequest, GetQuotaResponse};

use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::session::Session;

/// RFC 9208 §5.1: STORAGE counts in these.
const UNIT: u64 = 1024;

pub(super) async fn run(session: &mut Session, quota: &Quota) -> Outcome {
    match quota {
        Quota::Root(name) => root(session, name).await,
        Quota::Get(root) => get(session, root).await,
        Quota::Set { .. } => {
            session.login()?;
            // RFC 9208 §4.1.3: who is no administrator may not.
            Err(Reply::no("Quotas are set by the administrator").code("NOPERM").into())
        }
    }
}

/// Octets in units of quotas. What is begun counts.
pub(super) fn units(octets: u64) -> u64 {
    octets.div_ceil(UNIT)
}

async fn read(session: &mut Session) -> Result<GetQuotaResponse, Failed> {
    let request = GetQuotaRequest {
        session: session.token()?,
    };
    Ok(session.shared.mail().get_quota(request).await?.into_inner())
}

fn write(session: &mut Session, quota: &GetQuotaResponse) {
    // A limit is rounded down, so that what is told to be left is left.
    let line = format!(
        "* QUOTA \"\" (STORAGE {} {})\r\n",
        units(quota.used),
        quota.limit / UNIT
    );
    session.connection.out.put_slice(line.as_bytes());
}

async fn root(session: &mut Session, name: &str) -> Outcome {
    let token = session.token()?;
    let mailbox = session.shared.mailbox(&token, &names::kept(name)).await?;
    rights::allow(&mailbox, Right::Read)?;
    let quota = read(session).await?;
    let out = &mut session.connection.out;
    out.put_slice(b"* QUOTAROOT ");
    names::write(&mailbox.name, session.names, out);
    out.put_slice(if quota.limit == 0 { b"\r\n" } else { b" \"\"\r\n" });
    if quota.limit != 0 {
        write(session, &quota);
    }
    Ok(Reply::ok("Done"))
}

async fn get(session: &mut Session, root: &str) -> Outcome {
    let quota = read(session).await?;
    if !root.is_empty() || quota.limit == 0 {
        return Err(Reply::no("There is no such quota root").code("NONEXISTENT").into());
    }
    write(session, &quota);
    Ok(Reply::ok("Done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_1024_octets() {
        assert_eq!([0, 1, 1024, 1025].map(units), [0, 1, 1, 2]);
    }
}
