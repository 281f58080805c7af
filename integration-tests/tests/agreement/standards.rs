//! The signed message of RFC 6376 Appendix A, with the key of Appendix C. That of RFC 8463 is in the tests of
//! `mox-mailauth`.

use std::sync::Arc;

use mox_mailauth::dkim::Outcome;
use mox_mailauth::{message, spf};

use super::texts;

const KEY: &str = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";

const SIGNED: &str = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
";

#[tokio::test]
async fn the_example_of_rfc_6376_verifies() {
    let zone = Arc::new(texts(&serde_json::json!({ "brisbane._domainkey.example.com": KEY })));
    for (from, to, outcome) in [
        ("", "", Outcome::Pass),
        ("dinner", "lunch", Outcome::Fail),
        ("Joe.", "Jim.", Outcome::Fail),
        // Simple: not even white space may change.
        ("com  [", "com [", Outcome::Fail),
    ] {
        let message = SIGNED.replacen(from, to, 1).replace('\n', "\r\n");
        let verdicts = message::verify(zone.clone(), message.into(), "", &spf::Verdict::default()).await;
        let outcomes: Vec<Outcome> = verdicts.unwrap().dkim.iter().map(|v| v.outcome).collect();
        assert_eq!(outcomes, [outcome], "{from}");
    }
}
