//! Annotations of mailboxes, and of an account as a whole (RFC 5464).

use bytes::Bytes;
use mox_proto::mail::v1::SetMetadataResponse;
use mox_proto::record::v1 as record;
use mox_types::MailboxId;
use prost::Message as _;

use crate::account::{AccountError, AccountTx, Op, Reader};
use crate::keys;

/// Most annotations of an account, of all mailboxes and its own. Clients keep a few for each mailbox.
pub const ANNOTATIONS_MAX: u32 = 2000;
/// Most bytes of an annotation's value (RFC 5464 §4.3 lets a server refuse with MAXSIZE).
pub const ANNOTATION_BYTES_MAX: usize = 64 << 10;
/// Most bytes of all annotations of an account: they don't count against its quota.
pub const ANNOTATIONS_BYTES_MAX: u64 = 16 << 20;
/// Most bytes of an annotation's name.
pub const ANNOTATION_NAME_MAX: usize = 512;

/// Sets and removes annotations, all or none.
pub struct SetMetadata {
    /// Of which; none is the account as a whole.
    pub mailbox: Option<MailboxId>,
    /// By canonical name, each once; those without a value are removed.
    pub annotations: Vec<(String, Option<Bytes>)>,
}

impl Op for SetMetadata {
    type Output = SetMetadataResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        if let Some(id) = self.mailbox {
            tx.state().mailbox(id)?;
        }
        let account = tx.account();
        let keys: Vec<Bytes> = self
            .annotations
            .iter()
            .map(|(name, _)| keys::annotation(account, self.mailbox, name))
            .collect();
        let before = tx.get_many(keys.clone()).await?;
        let mut changed = Vec::new();
        for (((name, value), key), before) in self.annotations.iter().zip(keys).zip(before) {
            let before = before.map(decode).transpose()?;
            // What is as it is to be is no change.
            if before.as_ref().map(|b| &b.value) == value.as_ref() {
                continue;
            }
            changed.push(name.clone());
            tx.count_annotation(
                name,
                before.as_ref().map(|b| b.value.len()),
                value.as_ref().map(Bytes::len),
            );
            match value {
                Some(value) => {
                    let modseq = tx.modseq();
                    let value = value.clone();
                    tx.put(key, record::Annotation { value, modseq }.encode_to_vec());
                }
                None => tx.delete(key),
            }
        }
        let record = &tx.state().record;
        if record.annotations > ANNOTATIONS_MAX || record.annotation_bytes > ANNOTATIONS_BYTES_MAX {
            return Err(AccountError::Limit(
                "toomany: at most 2000 annotations and 16 MiB of them an account",
            ));
        }
        let mut modseq = 0;
        for name in changed {
            tx.note_metadata(self.mailbox, &name)?;
            modseq = tx.modseq();
        }
        Ok(SetMetadataResponse { modseq })
    }

    fn size(&self) -> usize {
        let size = |v: &Option<Bytes>| v.as_ref().map_or(0, Bytes::len) + ANNOTATION_NAME_MAX;
        self.annotations.iter().map(|(_, value)| size(value)).sum()
    }

    fn frees(&self) -> bool {
        self.annotations.iter().all(|(_, value)| value.is_none())
    }
}

/// Removes all annotations of a mailbox that is being deleted.
///
/// # Errors
/// If they cannot be read.
pub(super) async fn remove_all(tx: &mut AccountTx, mailbox: MailboxId) -> Result<(), AccountError> {
    let mut left = Some(keys::annotations(tx.account(), Some(mailbox)));
    while let Some(range) = left.take() {
        let (rows, rest) = tx.scan(range, usize::MAX).await?;
        for (key, value) in rows {
            let name = keys::parse_annotation(&key).ok_or(AccountError::Damaged("an annotation"))?;
            tx.count_annotation(name, Some(decode(value)?.value.len()), None);
            tx.delete(key);
        }
        left = rest;
    }
    Ok(())
}

fn decode(value: Bytes) -> Result<record::Annotation, AccountError> {
    record::Annotation::decode(value).map_err(|_| AccountError::Damaged("an annotation"))
}
