//! What holds in every shape: in-process, loopback and mutual TLS.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Subject, shapes};
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::auth::v1::*;
use mox_proto::delivery::v1::LookupRecipientRequest;
use mox_proto::delivery::v1::delivery_service_client::DeliveryServiceClient;
use mox_proto::node::v1::node_service_client::NodeServiceClient;
use mox_proto::node::v1::*;
use mox_rpc::{Identity, with_deadline};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

#[tokio::test]
async fn handlers_know_their_caller_and_it_is_not_the_requests_to_say() {
    let (channels, _servers) = shapes(&Subject::default(), "control").await;
    for (shape, channel) in channels {
        let mut request = Request::new(InfoRequest {});
        request.metadata_mut().insert("mox-caller", "store".parse().unwrap());
        request.extensions_mut().insert(Identity::new("store"));
        let answer = NodeServiceClient::new(channel).info(request).await.unwrap();
        assert_eq!(answer.into_inner().service, "control", "{shape}");
    }
}

#[tokio::test]
async fn what_the_table_does_not_allow_is_refused() {
    let (channels, _servers) = shapes(&Subject::default(), "imap").await;
    for (shape, channel) in channels {
        let error = NodeServiceClient::new(channel.clone())
            .stop(StopRequest {})
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{shape}: {error:?}");
        assert!(error.message().contains("imap"), "{shape}: {error:?}");
        let lookup = LookupRecipientRequest::default();
        let error = DeliveryServiceClient::new(channel.clone())
            .lookup_recipient(lookup)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{shape}: {error:?}");
        let error = AuthServiceClient::new(channel)
            .end_session(EndSessionRequest::default())
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::NotFound, "nothing"), "{shape}");
    }
}

#[tokio::test]
async fn deadline_ends_a_call_and_its_handler() {
    let subject = Subject::default();
    let (channels, _servers) = shapes(&subject, "control").await;
    for (shape, channel) in channels {
        let mut client = NodeServiceClient::new(channel);
        client.info(InfoRequest {}).await.unwrap();
        let begun = Instant::now();
        let request = with_deadline(GetLogLevelsRequest {}, Duration::from_millis(150));
        let error = client.get_log_levels(request).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{shape}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{shape}");
        subject.alive.becomes(0).await;
    }
}

#[tokio::test]
async fn dropping_a_call_drops_its_handler() {
    let subject = Subject::default();
    let (channels, _servers) = shapes(&subject, "control").await;
    for (shape, channel) in channels {
        let call = tokio::spawn(async move {
            NodeServiceClient::new(channel)
                .get_log_levels(GetLogLevelsRequest {})
                .await
        });
        subject.alive.becomes(1).await;
        call.abort();
        subject.alive.becomes(0).await;
        assert!(call.await.unwrap_err().is_cancelled(), "{shape}");
    }
}

#[tokio::test]
async fn a_panic_is_the_calls_own() {
    let (channels, _servers) = shapes(&Subject::default(), "control").await;
    for (shape, channel) in channels {
        let mut client = NodeServiceClient::new(channel);
        let error = client.set_log_level(SetLogLevelRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{shape}: {error:?}");
        client.info(InfoRequest {}).await.unwrap();
    }
}

fn response(data: &'static [u8]) -> AuthenticateRequest {
    AuthenticateRequest {
        step: Some(authenticate_request::Step::Response(data.into())),
    }
}

#[tokio::test]
async fn streams_go_both_ways_and_end_with_their_client() {
    let subject = Subject::default();
    let (channels, _servers) = shapes(&subject, "imap").await;
    for (shape, channel) in channels {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let answer = AuthServiceClient::new(channel)
            .authenticate(ReceiverStream::new(receiver))
            .await
            .unwrap();
        let mut answers = answer.into_inner();
        for data in [&b"one"[..], b"two"] {
            sender.send(response(data)).await.unwrap();
            let step = answers.message().await.unwrap().unwrap().step.unwrap();
            assert_eq!(step, authenticate_response::Step::Challenge(data.into()), "{shape}");
        }
        subject.alive.becomes(1).await;
        drop(answers);
        subject.alive.becomes(0).await;
        sender.closed().await;
    }
}

#[tokio::test]
async fn a_stream_lives_by_its_messages_and_dies_of_silence() {
    let subject = Subject::default();
    let (channels, _servers) = shapes(&subject, "imap").await;
    for (shape, channel) in channels {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let idle = Duration::from_millis(400);
        let request = with_deadline::<ReceiverStream<_>>(ReceiverStream::new(receiver), idle);
        let mut answers = AuthServiceClient::new(channel)
            .authenticate(request)
            .await
            .unwrap()
            .into_inner();
        let begun = Instant::now();
        for _ in 0..6 {
            tokio::time::sleep(idle / 4).await;
            sender.send(response(b"x")).await.unwrap();
            answers.message().await.unwrap().unwrap();
        }
        assert!(
            begun.elapsed() > idle,
            "{shape}: longer than the idle time, with messages"
        );
        let error = answers.message().await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{shape}: {error:?}");
        subject.alive.becomes(0).await;
    }
}
