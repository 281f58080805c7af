//! The MIME structure of a message, as JSON has it.

use std::collections::BTreeMap;

use mox_message::{decoded_size, parameter};
use mox_proto::mail::v1::Part;
use serde::{Deserialize, Serialize};

/// A part of a message, with the parts within.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Structure {
    /// In lower case: `text/plain`.
    pub content_type: String,
    /// Names in lower case.
    pub content_type_params: BTreeMap<String, String>,
    /// With its brackets; empty if it has none.
    #[serde(rename = "ContentID")]
    pub content_id: String,
    /// In lower case: `attachment` or `inline`; empty if it has none.
    pub content_disposition: String,
    /// Of a file; empty if it has none.
    pub filename: String,
    /// Octets without the transfer encoding.
    pub decoded_size: u64,
    /// Of a multipart, and the one message within a message.
    pub parts: Vec<Structure>,
}

impl Structure {
    /// Of a part, whose offsets must be those of `message`.
    #[must_use]
    pub fn of(message: &[u8], part: &Part) -> Self {
        let parameters = part.parameters.iter();
        let disposition = part.disposition.as_deref().unwrap_or_default().to_lowercase();
        let filename = parameter(&part.disposition_parameters, "filename")
            .or_else(|| parameter(&part.parameters, "name"))
            .unwrap_or_default();
        let within = part.parts.iter().chain(part.message.as_deref());
        Self {
            content_type: format!("{}/{}", part.media_type, part.media_subtype),
            content_type_params: parameters
                .map(|p| (p.name.clone(), String::from_utf8_lossy(&p.value).into_owned()))
                .collect(),
            content_id: text(part.content_id.as_deref()),
            content_disposition: disposition,
            filename,
            decoded_size: decoded_size(message, part),
            parts: within.map(|part| Self::of(message, part)).collect(),
        }
    }
}

pub(crate) fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).trim().to_owned()
}
