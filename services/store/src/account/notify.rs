//! Events of changed accounts, to other processes and from them.

use mox_events::{Bus, Event, Notice, Subject};
use mox_types::AccountId;

use super::{Accounts, News};

impl Accounts {
    /// Publishes the changes of this process, and takes notice of those of others. Runs until the bus is gone.
    pub async fn exchange_events(&self, bus: Bus) {
        let mut notices = bus.subscribe(Subject::Accounts);
        loop {
            tokio::select! {
                changed = self.hub().outgoing() => {
                    for (account, news) in changed {
                        bus.publish(&Event::AccountChanged { account: account.to_string(), modseq: news.modseq });
                    }
                }
                notice = notices.next() => match notice {
                    Some(Notice::Event(Event::AccountChanged { account, modseq })) => {
                        if let Some(account) = parse(&account) {
                            self.hub().noticed(account, &News::anywhere(modseq));
                        }
                    }
                    Some(Notice::Event(_)) => {}
                    Some(Notice::Resubscribed) => self.read_watched().await,
                    None => return,
                },
            }
        }
    }

    /// Looks at what is watched, as events may have been missed.
    async fn read_watched(&self) {
        for account in self.hub().accounts() {
            if let Ok(state) = self.state(account, 0).await {
                self.hub().noticed(account, &News::anywhere(state.modseq()));
            }
        }
    }
}

fn parse(account: &str) -> Option<AccountId> {
    let id = uuid::Uuid::parse_str(account).ok()?;
    Some(AccountId::from(*id.as_bytes()))
}
