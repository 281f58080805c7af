//! Putting messages in order (RFC 5256 §3).

use std::cmp::Ordering;
use std::sync::Arc;

use mox_proto::mail::v1::SortCriterion;

use super::facts::{Column, NO_DATE, Values};

/// What the index knows of a message.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub uid: u32,
    pub size: u64,
    pub received: i64,
}

/// A criterion, and the column that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    pub what: What,
    pub reverse: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Arrival,
    Size,
    Column(Column),
}

impl What {
    pub fn of(criterion: SortCriterion) -> Self {
        match criterion {
            SortCriterion::Arrival => Self::Arrival,
            SortCriterion::Size => Self::Size,
            SortCriterion::Date => Self::Column(Column::Date),
            SortCriterion::Subject => Self::Column(Column::Subject),
            SortCriterion::From => Self::Column(Column::From),
            SortCriterion::To => Self::Column(Column::To),
            SortCriterion::Cc => Self::Column(Column::Cc),
            SortCriterion::Displayfrom => Self::Column(Column::DisplayFrom),
            SortCriterion::Displayto => Self::Column(Column::DisplayTo),
        }
    }
}

/// Sorts messages, given in the order of their UIDs. Each has a value in every column; one that has not is left out, as
/// it went while the columns were read.
pub fn sort(rows: &[Row], by: &[By], columns: &[(Column, Arc<Values>)]) -> Vec<u32> {
    let keys: Vec<Key<'_>> = by
        .iter()
        .map(|by| Key {
            reverse: by.reverse,
            values: match by.what {
                What::Arrival => Of::Arrival,
                What::Size => Of::Size,
                What::Column(column) => columns
                    .iter()
                    .find(|c| c.0 == column)
                    .map_or(Of::Nothing, |c| match column {
                        Column::Date => Of::Date(&c.1),
                        _ => Of::Text(&c.1),
                    }),
            },
        })
        .collect();
    let width = keys.len();
    // Where each message is in each column, found once.
    let mut places: Vec<u32> = Vec::with_capacity(rows.len() * width);
    let mut known: Vec<Row> = Vec::with_capacity(rows.len());
    'rows: for row in rows {
        let start = places.len();
        for key in &keys {
            let place = match key.values {
                Of::Date(values) | Of::Text(values) => values.position(row.uid),
                _ => Some(0),
            };
            let Some(place) = place.and_then(|p| u32::try_from(p).ok()) else {
                places.truncate(start);
                continue 'rows;
            };
            places.push(place);
        }
        known.push(*row);
    }
    let mut order: Vec<u32> = (0..u32::try_from(known.len()).unwrap_or(u32::MAX)).collect();
    // Stable, and given in the order of UIDs: which is what is equal stays in (RFC 5256 §3).
    order.sort_by(|a, b| {
        let (a, b) = (*a as usize, *b as usize);
        keys.iter()
            .enumerate()
            .map(|(n, key)| {
                key.compare(
                    (&known[a], places[a * width + n] as usize),
                    (&known[b], places[b * width + n] as usize),
                )
            })
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    });
    order.into_iter().map(|at| known[at as usize].uid).collect()
}

struct Key<'a> {
    reverse: bool,
    values: Of<'a>,
}

enum Of<'a> {
    Nothing,
    Arrival,
    Size,
    Date(&'a Values),
    Text(&'a Values),
}

impl Key<'_> {
    fn compare(&self, a: (&Row, usize), b: (&Row, usize)) -> Ordering {
        let order = match self.values {
            Of::Nothing => Ordering::Equal,
            Of::Arrival => a.0.received.cmp(&b.0.received),
            Of::Size => a.0.size.cmp(&b.0.size),
            Of::Date(values) => sent(values, a).cmp(&sent(values, b)),
            Of::Text(values) => values.text(a.1).cmp(values.text(b.1)),
        };
        if self.reverse { order.reverse() } else { order }
    }
}

/// RFC 5256 §2.2: without a date that can be read, INTERNALDATE.
fn sent(values: &Values, (row, at): (&Row, usize)) -> i64 {
    match values.number(at) {
        NO_DATE => row.received,
        date => date,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::sort::facts::Headers;

    fn headers(date: Option<i64>, subject: &str) -> Headers {
        let date = date.map(|d| format!("1 Jan 1970 00:00:{:02} +0000", d % 60).into_bytes().into());
        let envelope = mox_proto::mail::v1::Envelope {
            date,
            subject: Some(subject.to_owned().into_bytes().into()),
            ..Default::default()
        };
        Headers {
            envelope: Some(envelope),
            references: None,
        }
    }

    fn columns(messages: &[(Option<i64>, &str)]) -> Vec<(Column, Arc<Values>)> {
        [Column::Date, Column::Subject]
            .map(|column| {
                let mut values = Values::new(column);
                for (uid, (date, subject)) in (1..).zip(messages) {
                    values.push(column, uid, &headers(*date, subject));
                }
                (column, Arc::new(values))
            })
            .to_vec()
    }

    fn rows(received: &[i64]) -> Vec<Row> {
        (1..)
            .zip(received)
            .map(|(uid, received)| Row {
                uid,
                size: 100 - u64::from(uid) / 2,
                received: *received,
            })
            .collect()
    }

    fn by(list: &[(SortCriterion, bool)]) -> Vec<By> {
        list.iter()
            .map(|(criterion, reverse)| By {
                what: What::of(*criterion),
                reverse: *reverse,
            })
            .collect()
    }

    #[test]
    fn reverse_keeps_the_order_of_what_is_equal() {
        use SortCriterion as C;
        let columns = columns(&[(Some(5), "b"), (None, "a"), (Some(9), "Re: B"), (Some(1), "")]);
        let rows = rows(&[3, 7, 1, 2]);
        for (criteria, want) in [
            (&[(C::Subject, false)][..], [4, 2, 1, 3]),
            (&[(C::Subject, true)], [1, 3, 2, 4]),
            (&[(C::Subject, true), (C::Date, true)], [3, 1, 2, 4]),
            // The second has no date, and was received at 7.
            (&[(C::Date, false)], [4, 1, 2, 3]),
            (&[(C::Date, true)], [3, 2, 1, 4]),
            (&[(C::Arrival, false)], [3, 4, 1, 2]),
            (&[(C::Size, false)], [4, 2, 3, 1]),
        ] {
            assert_eq!(sort(&rows, &by(criteria), &columns), want, "{criteria:?}");
        }
        // What has gone from a column is left out.
        let more = [
            &rows[..],
            &[Row {
                uid: 9,
                size: 1,
                received: 1,
            }],
        ]
        .concat();
        assert_eq!(sort(&more, &by(&[(C::Date, false)]), &columns).len(), 4);
    }

    proptest! {
        #[test]
        fn sorting_is_as_a_plain_sort_of_keys(messages in prop::collection::vec((prop::option::of(0i64..6), "[aB]{0,2}", 0i64..6), 0..20),
            reverse: [bool; 2]) {
            let named: Vec<_> = messages.iter().map(|(date, subject, _)| (*date, subject.as_str())).collect();
            let received: Vec<i64> = messages.iter().map(|m| m.2).collect();
            let got = sort(&rows(&received), &by(&[(SortCriterion::Subject, reverse[0]), (SortCriterion::Date, reverse[1])]), &columns(&named));
            let mut want: Vec<u32> = (1..).take(messages.len()).collect();
            want.sort_by(|a, b| {
                let key = |uid: &u32| {
                    let (date, subject, received) = &messages[*uid as usize - 1];
                    (subject.to_uppercase(), date.unwrap_or(*received))
                };
                let turn = |o: Ordering, reverse: bool| if reverse { o.reverse() } else { o };
                turn(key(a).0.cmp(&key(b).0), reverse[0]).then(turn(key(a).1.cmp(&key(b).1), reverse[1])).then(a.cmp(b))
            });
            prop_assert_eq!(got, want);
        }
    }
}
