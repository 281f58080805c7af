//! The bus over a real NATS server, which comes late, goes away and comes back.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mox_events::{Bus, Event, Notice, Subject, Subscription};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server(Child);

impl Server {
    fn start(port: u16) -> Self {
        let server = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is needed: `make test` installs it");
        Self(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn next(subscription: &mut Subscription) -> Notice {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a notice in time")
        .expect("the bus lives")
}

/// Waits for a notice. What is published while connecting may arrive before or after the notice of the connection.
async fn until(subscription: &mut Subscription, wanted: Notice) {
    while next(subscription).await != wanted {}
}

fn changed(modseq: u64) -> Event {
    Event::AccountChanged {
        account: "0198c0de-0000-7000-8000-000000000001".into(),
        modseq,
    }
}

#[tokio::test]
async fn events_cross_processes_and_reconnections_are_told() {
    let port = free_port();
    let url = format!("nats://127.0.0.1:{port}");
    let (here, there) = (Bus::nats(&url).unwrap(), Bus::nats(&url).unwrap());
    let mut accounts = there.subscribe(Subject::Accounts);
    assert_eq!(next(&mut accounts).await, Notice::Resubscribed);
    // Before there is a server: kept, the last of each.
    here.publish(&changed(1));
    here.publish(&changed(2));
    let server = Server::start(port);
    until(&mut accounts, Notice::Resubscribed).await;
    // The other side may have connected, and sent what it kept, earlier or later.
    here.publish(&changed(3));
    until(&mut accounts, Notice::Event(changed(3))).await;
    assert!(here.is_connected() && there.is_connected());

    drop(server);
    while here.is_connected() || there.is_connected() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for modseq in 4..=100 {
        here.publish(&changed(modseq));
    }
    let _server = Server::start(port);
    until(&mut accounts, Notice::Resubscribed).await;
    here.publish(&changed(101));
    until(&mut accounts, Notice::Event(changed(101))).await;

    // What a process publishes, its own subscribers get once, and directly.
    let mut own = here.subscribe(Subject::Queue);
    let mut other = there.subscribe(Subject::Queue);
    assert_eq!(
        (next(&mut own).await, next(&mut other).await),
        (Notice::Resubscribed, Notice::Resubscribed)
    );
    here.publish(&Event::QueueDue);
    assert_eq!(next(&mut own).await, Notice::Event(Event::QueueDue));
    assert_eq!(next(&mut other).await, Notice::Event(Event::QueueDue));
    there.publish(&Event::QueueDue);
    assert_eq!(next(&mut own).await, Notice::Event(Event::QueueDue));
    assert_eq!(next(&mut other).await, Notice::Event(Event::QueueDue));
}

#[tokio::test]
async fn a_url_that_is_none_is_an_error_without_its_password() {
    let error = Bus::nats("nats://user:secret@").unwrap_err().to_string();
    assert!(
        error.contains("nats://host:4222") && !error.contains("secret"),
        "{error}"
    );
}
