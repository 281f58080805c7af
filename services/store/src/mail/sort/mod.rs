//! SORT and THREAD (RFC 5256): the messages that match a search, in order or in trees.
//!
//! The search goes first; what it found is put in order by columns that are made of what was computed when the messages
//! were added ([`facts`]), and kept while their mailbox is in use ([`columns`]). No message's content is read. The answer
//! is a stream: of empty pages while the work goes on, which says so to who waits, and then of what was found.

mod casemap;
mod columns;
mod facts;
mod order;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mox_proto::mail::v1 as mail;
use mox_types::{AccountId, MailboxId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

pub(crate) use self::columns::{Columns, Progress};
pub(crate) use self::facts::{Column, NO_DATE, Values};
use self::order::{By, Row, What};
use super::thread::{self, Member};
use super::{Answers, Mail, mailbox_id};
use crate::account::Index;

/// Messages of a page: at most 10 octets each.
const PAGE: usize = 60_000;
/// Criteria of a request: each in both directions, and room.
const CRITERIA_MAX: usize = 32;
/// Pages that are made ahead of the client.
const AHEAD: usize = 2;
/// How often who waits is told that work goes on: well within the time after which a silent stream is given up.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What a search found, as the index has it now.
struct Found {
    rows: Vec<Row>,
    index: Index,
    /// UIDs mean messages together with this.
    uid_validity: u32,
    highest_modseq: u64,
}

/// Tells the client of progress, and ends the work when it is gone.
struct Telling<T> {
    pages: mpsc::Sender<Result<T, Status>>,
    told: Instant,
}

impl<T: Default + Send> Telling<T> {
    async fn send(&self, page: T) -> Result<(), Status> {
        self.pages
            .send(Ok(page))
            .await
            .map_err(|_| Status::cancelled("the client is gone"))
    }
}

impl<T: Default + Send> Progress for Telling<T> {
    async fn go_on(&mut self) -> Result<(), Status> {
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            return self.send(T::default()).await;
        }
        match self.pages.is_closed() {
            true => Err(Status::cancelled("the client is gone")),
            false => Ok(()),
        }
    }
}

/// Answers with what `work` sends.
fn answer<T, F>(work: impl FnOnce(Telling<T>) -> F) -> Answers<T>
where
    T: Default + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (pages, receiver) = mpsc::channel(AHEAD);
    let work = work(Telling {
        pages: pages.clone(),
        told: Instant::now(),
    });
    tokio::spawn(async move {
        if let Err(status) = work.await {
            // If the client is gone, nobody wants to know.
            let _ = pages.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

impl Mail {
    pub(super) fn do_sort(
        &self,
        account: AccountId,
        request: mail::SortRequest,
    ) -> Result<Answers<mail::SortResponse>, Status> {
        let id = mailbox_id(&request.mailbox_id)?;
        if request.by.len() > CRITERIA_MAX {
            return Err(Status::invalid_argument("at most 32 criteria of sorting"));
        }
        let mut by = Vec::with_capacity(request.by.len());
        for one in &request.by {
            let criterion = mail::SortCriterion::try_from(one.criterion)
                .map_err(|_| Status::invalid_argument("unknown criterion of sorting"))?;
            by.push(By {
                what: What::of(criterion),
                reverse: one.reverse,
            });
        }
        let mail = self.clone();
        Ok(answer(move |telling| async move {
            mail.sort_to(account, id, request.key, by, telling).await
        }))
    }

    async fn sort_to(
        &self,
        account: AccountId,
        id: MailboxId,
        key: Option<mail::SearchKey>,
        by: Vec<By>,
        mut telling: Telling<mail::SortResponse>,
    ) -> Result<(), Status> {
        let found = self.find(account, id, key, &mut telling).await?;
        let uids: Vec<u32> = found.rows.iter().map(|r| r.uid).collect();
        let mut columns: Vec<(Column, Arc<Values>)> = Vec::new();
        for by in &by {
            if let What::Column(column) = by.what
                && columns.iter().all(|c| c.0 != column)
            {
                let of = (account, id, found.uid_validity, column);
                let values = self.column(of, &found.index, &uids, &mut telling).await?;
                columns.push((column, values));
            }
        }
        let (rows, highest_modseq) = (found.rows, found.highest_modseq);
        let sorted = blocking(move || order::sort(&rows, &by, &columns)).await?;
        for page in sorted.chunks(PAGE) {
            let uids = page.to_vec();
            let page = mail::SortResponse {
                uids,
                highest_modseq: 0,
            };
            telling.send(page).await?;
        }
        telling
            .send(mail::SortResponse {
                uids: Vec::new(),
                highest_modseq,
            })
            .await
    }

    pub(super) fn do_thread(
        &self,
        account: AccountId,
        request: mail::ThreadRequest,
    ) -> Result<Answers<mail::ThreadResponse>, Status> {
        let id = mailbox_id(&request.mailbox_id)?;
        let algorithm = mail::ThreadAlgorithm::try_from(request.algorithm)
            .map_err(|_| Status::invalid_argument("unknown algorithm of threading"))?;
        let mail = self.clone();
        Ok(answer(move |telling| async move {
            mail.thread_to(account, id, request.key, algorithm, telling).await
        }))
    }

    async fn thread_to(
        &self,
        account: AccountId,
        id: MailboxId,
        key: Option<mail::SearchKey>,
        algorithm: mail::ThreadAlgorithm,
        mut telling: Telling<mail::ThreadResponse>,
    ) -> Result<(), Status> {
        let found = self.find(account, id, key, &mut telling).await?;
        let uids: Vec<u32> = found.rows.iter().map(|r| r.uid).collect();
        let mut wanted = vec![Column::Date, Column::Subject];
        if algorithm == mail::ThreadAlgorithm::References {
            wanted.push(Column::Ids);
        }
        let mut columns = Vec::new();
        for column in wanted {
            let of = (account, id, found.uid_validity, column);
            columns.push(self.column(of, &found.index, &uids, &mut telling).await?);
        }
        let (rows, highest_modseq) = (found.rows, found.highest_modseq);
        let threads = blocking(move || {
            let members = members(&rows, &columns);
            match algorithm {
                mail::ThreadAlgorithm::Orderedsubject => thread::by_subject(&members),
                mail::ThreadAlgorithm::References => thread::by_references(&members),
            }
        })
        .await?;
        for page in threads.chunks(PAGE) {
            let page = mail::ThreadResponse {
                uids: page.iter().map(|n| n.uid).collect(),
                depths: page.iter().map(|n| n.depth).collect(),
                highest_modseq: 0,
            };
            telling.send(page).await?;
        }
        telling
            .send(mail::ThreadResponse {
                highest_modseq,
                ..Default::default()
            })
            .await
    }

    /// Searches to the end.
    async fn find(
        &self,
        account: AccountId,
        id: MailboxId,
        key: Option<mail::SearchKey>,
        progress: &mut impl Progress,
    ) -> Result<Found, Status> {
        let mut ranges = Vec::new();
        let mut highest_modseq = 0;
        let mut request = mail::SearchRequest {
            mailbox_id: id.to_bytes(),
            key,
            ..Default::default()
        };
        loop {
            progress.go_on().await?;
            let page = self.do_search(account, request.clone()).await?;
            highest_modseq = page.highest_modseq.max(highest_modseq);
            ranges.extend(page.uids);
            if page.next_uid == 0 {
                break;
            }
            request.from_uid = page.next_uid;
        }
        let (state, index) = self.accounts.view(account, id, 0).await?;
        let uid_validity = state.mailbox(id)?.uid_validity;
        let rows = index
            .ranges(&ranges)
            .map(|(chunk, at)| Row {
                uid: chunk.uids[at],
                size: chunk.sizes[at],
                received: chunk.received[at],
            })
            .collect();
        Ok(Found {
            rows,
            index,
            uid_validity,
            highest_modseq,
        })
    }
}

/// What is threaded: date, subject and, if it was read, what is referred to.
fn members<'a>(rows: &[Row], columns: &'a [Arc<Values>]) -> Vec<Member<'a>> {
    let [dates, subjects, rest @ ..] = columns else {
        return Vec::new();
    };
    let ids = rest.first();
    let mut members = Vec::with_capacity(rows.len());
    for row in rows {
        let (Some(date), Some(subject)) = (dates.position(row.uid), subjects.position(row.uid)) else {
            continue;
        };
        let ids = match ids {
            None => &[][..],
            Some(ids) => match ids.position(row.uid) {
                Some(at) => ids.text(at),
                None => continue,
            },
        };
        members.push(Member {
            uid: row.uid,
            // RFC 5256 §2.2.
            date: match dates.number(date) {
                NO_DATE => row.received,
                date => date,
            },
            subject: subjects.text(subject),
            ids,
        });
    }
    members
}

/// Much computing at once belongs on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Status::unavailable("the store is shutting down"))
}
