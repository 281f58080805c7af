//! Looking texts up: which messages have them, which may have them, and of which the index says nothing.

use std::sync::Arc;

use mox_types::AccountId;
use roaring::RoaringBitmap;

use super::block::{Places, Postings, Terms, damaged};
use super::cache::{Part, PartId};
use super::plan::{Atom, Place, Plan, plan};
use super::segment::{Head, Kind};
use super::{Opened, TextIndex};
use crate::account::AccountError;
use crate::engine::Snapshot;
use crate::keys;

/// Most atoms of a search; what is looked for beyond is left to reading the messages. One pass of an atom over the
/// dictionary of a large account takes milliseconds.
const ATOMS_MAX: usize = 48;
/// Parts of segments that are read at a time.
const READ_PARTS: usize = 16;

/// What the index knows of the texts of a search.
#[derive(Debug)]
pub struct Found {
    covered: Arc<RoaringBitmap>,
    answers: Vec<Option<Answer>>,
}

#[derive(Debug, Default)]
struct Answer {
    yes: RoaringBitmap,
    maybe: RoaringBitmap,
}

impl Found {
    /// Whether the message of a number has a text, by the index of the text; `None`: it has to be read.
    #[must_use]
    pub fn test(&self, text: usize, number: u32) -> Option<bool> {
        let answer = self.answers.get(text)?.as_ref()?;
        if number == 0 || !self.covered.contains(number) {
            return None;
        }
        if answer.yes.contains(number) {
            return Some(true);
        }
        (!answer.maybe.contains(number)).then_some(false)
    }
}

impl TextIndex {
    /// Looks up folded texts in an account's index, if it has one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn look_up(
        &self,
        snapshot: &dyn Snapshot,
        account: AccountId,
        texts: &[(&Place, &str)],
    ) -> Result<Option<Found>, AccountError> {
        let Some(opened) = self.open(snapshot, account).await? else {
            return Ok(None);
        };
        let mut atoms = Vec::new();
        let mut plans = Vec::new();
        for (place, text) in texts {
            let known = atoms.len();
            let made = plan(place, text, &mut atoms);
            if atoms.len() > ATOMS_MAX {
                atoms.truncate(known);
                plans.push(None);
            } else {
                plans.push(Some(made));
            }
        }
        let mut answers: Vec<Option<Answer>> = plans.iter().map(|p| p.as_ref().map(|_| Answer::default())).collect();
        for (id, head) in &opened.segments {
            let sets = self.find(snapshot, account, *id, head, &atoms).await?;
            for (plan, answer) in plans.iter().zip(&mut answers) {
                if let (Some(plan), Some(answer)) = (plan, answer) {
                    combine(plan, &sets, head, answer);
                }
            }
        }
        Ok(Some(Found {
            covered: opened.covered.clone(),
            answers,
        }))
    }

    /// The places of each atom in a segment.
    async fn find(
        &self,
        snapshot: &dyn Snapshot,
        account: AccountId,
        segment: u64,
        head: &Head,
        atoms: &[Atom],
    ) -> Result<Vec<Places>, AccountError> {
        let mut sets = vec![Places::new(head.numbers.len()); atoms.len()];
        let mut full = vec![false; atoms.len()];
        let wanted = atoms.iter().fold(0, |fields, atom| fields | atom.fields);
        let blocks: Vec<u32> = (0u32..)
            .zip(&head.fields)
            .filter(|(_, fields)| *fields & wanted != 0)
            .map(|(n, _)| n)
            .collect();
        for blocks in blocks.chunks(READ_PARTS) {
            let ids = blocks.iter().map(|n| (segment, Kind::Terms, *n)).collect();
            let parts = self.parts(snapshot, account, ids).await?;
            let mut found: Vec<(u32, Hits)> = Vec::new();
            for (number, part) in blocks.iter().zip(parts) {
                let Part::Terms(terms) = part else {
                    return Err(damaged());
                };
                let hits = hits(&terms, atoms, &full);
                if !hits.is_empty() {
                    found.push((*number, hits));
                }
                tokio::task::consume_budget().await;
            }
            let ids = found.iter().map(|(n, _)| (segment, Kind::Postings, *n)).collect();
            let parts = self.parts(snapshot, account, ids).await?;
            for ((_, hits), part) in found.into_iter().zip(parts) {
                let Part::Postings(postings) = part else {
                    return Err(damaged());
                };
                for (atom, terms) in hits {
                    for term in terms {
                        postings.add_to(term as usize, &mut sets[atom])?;
                    }
                    full[atom] = sets[atom].is_full();
                }
                tokio::task::consume_budget().await;
            }
            if full.iter().all(|f| *f) {
                break;
            }
        }
        Ok(sets)
    }

    /// Parts of segments in the order asked, from memory if they are there.
    pub(super) async fn parts(
        &self,
        snapshot: &dyn Snapshot,
        account: AccountId,
        ids: Vec<PartId>,
    ) -> Result<Vec<Part>, AccountError> {
        let mut parts: Vec<Option<Part>> = ids.iter().map(|id| self.0.cache.get(*id)).collect();
        let missing: Vec<usize> = (0..ids.len()).filter(|n| parts[*n].is_none()).collect();
        if !missing.is_empty() {
            let key = |n: &usize| keys::search_part(account, ids[*n].0, ids[*n].1 as u8, ids[*n].2);
            let values = snapshot.get_many(missing.iter().map(key).collect()).await?;
            for (n, value) in missing.into_iter().zip(values) {
                let data = value.ok_or_else(damaged)?.data;
                let part = match ids[n].1 {
                    Kind::Head => Part::Head(Arc::new(Head::decode(&data)?)),
                    Kind::Terms => Part::Terms(Arc::new(Terms::decode(&data)?)),
                    Kind::Postings => Part::Postings(Arc::new(Postings::decode(&data)?)),
                };
                self.0.cache.put(ids[n], &part);
                parts[n] = Some(part);
            }
        }
        parts.into_iter().map(|part| part.ok_or_else(damaged)).collect()
    }

    /// The index of an account, if it has one of this format.
    pub(super) async fn open(
        &self,
        snapshot: &dyn Snapshot,
        account: AccountId,
    ) -> Result<Option<Arc<Opened>>, AccountError> {
        let Some(value) = snapshot.get(keys::search_index(account)).await? else {
            return Ok(None);
        };
        if let Some(opened) = self.0.opened.lock().get(&account)
            && opened.version == value.version
        {
            return Ok(Some(opened.clone()));
        }
        let record = super::decode(&value.data)?;
        if record.format != super::FORMAT {
            return Ok(None);
        }
        let ids = record.segments.iter().map(|s| (s.id, Kind::Head, 0)).collect();
        let mut segments = Vec::new();
        let mut covered = RoaringBitmap::new();
        for (segment, part) in record.segments.iter().zip(self.parts(snapshot, account, ids).await?) {
            let Part::Head(head) = part else { return Err(damaged()) };
            covered.extend(&head.numbers);
            segments.push((segment.id, head));
        }
        for (_, head) in &segments {
            for place in &head.partial {
                covered.remove(*head.numbers.get(*place as usize).ok_or_else(damaged)?);
            }
        }
        let opened = Arc::new(Opened {
            version: value.version,
            segments,
            covered: Arc::new(covered),
        });
        self.keep_opened(account, &opened);
        Ok(Some(opened))
    }
}

/// By atom, the terms of a block that it finds.
type Hits = Vec<(usize, Vec<u32>)>;

/// The terms of a block that atoms find, for those that still look for some.
fn hits(terms: &Terms, atoms: &[Atom], full: &[bool]) -> Hits {
    let mut all = Vec::new();
    for (n, atom) in atoms.iter().enumerate().filter(|(n, _)| !full[*n]) {
        let mut found = Vec::new();
        for section in terms.sections.iter().filter(|s| atom.fields & (1 << s.field) != 0) {
            let accept = |term: &[u8], at| atom.accepts(section.field, term, at);
            terms.find(*section, &atom.finder, accept, &mut found);
        }
        if !found.is_empty() {
            all.push((n, found));
        }
    }
    all
}

/// Adds to an answer what the places of atoms in a segment mean.
fn combine(plan: &Plan, sets: &[Places], head: &Head, answer: &mut Answer) {
    let numbers = |set: &Places| -> Vec<u32> { set.iter().filter_map(|p| head.numbers.get(p).copied()).collect() };
    for atom in &plan.yes {
        answer.yes.extend(numbers(&sets[*atom]));
    }
    match plan.maybe.as_deref() {
        None => {}
        Some([]) => answer.maybe.extend(&head.numbers),
        Some([first, rest @ ..]) => {
            let all = sets[*first]
                .iter()
                .filter(|p| rest.iter().all(|atom| sets[*atom].contains(*p)));
            answer.maybe.extend(all.filter_map(|p| head.numbers.get(p).copied()));
        }
    }
}
