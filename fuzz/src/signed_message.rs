//! Messages with signatures and seals: whatever is in them, verifying ends, and few signatures are looked at.

use std::sync::Arc;

use bytes::Bytes;
use mox_dns::{Record, ZoneResolver};
use mox_mailauth::{dkim, message, spf};

/// See the top.
pub fn run(input: &[u8]) {
    let mut zone = ZoneResolver::new();
    let key = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    zone.add("s._domainkey.example.org", Record::Txt(key.to_vec()));
    zone.add("_dmarc.example.org", Record::Txt(b"v=DMARC1; p=reject".to_vec()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (message, spf) = (Bytes::copy_from_slice(input), spf::Verdict::default());
    let verify = message::verify(Arc::new(zone), message, "example.org", &spf);
    let verdicts = runtime.expect("a runtime").block_on(verify).expect("no fault of ours");
    assert!(verdicts.dkim.len() <= 2 * dkim::SIGNATURES);
    // Nobody has signed with that key.
    assert_eq!(verdicts.signers().count(), 0);
    assert_eq!(verdicts.arc.vouches("example.org", |_| true), None);
}
