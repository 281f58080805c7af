//! Unpacking attachments: gzip (RFC 1952) and zip, in which reports come.
//!
//! What an archive says of sizes is not believed: unpacking stops at a bound, which follows from the size of what was
//! sent ([`limits::RATIO`]). Of a zip archive only one file is read, stored or deflated, and never an archive within.

use std::io::Read;

use flate2::Crc;
use flate2::read::{DeflateDecoder, MultiGzDecoder};

use crate::limits;

/// Why an attachment could not be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// It is larger than reports are.
    #[error("attachment has {0} bytes: at most {max} are read", max = limits::PACKED)]
    Packed(usize),
    /// It would be far larger than what was sent.
    #[error("attachment of {packed} bytes unpacks to more than {allowed}")]
    Bomb {
        /// Bytes as sent.
        packed: usize,
        /// Bytes that were accepted.
        allowed: usize,
    },
    /// It is damaged.
    #[error("reading a {format} attachment: {cause}")]
    Damaged {
        /// gzip or zip.
        format: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// Archives within archives hold no reports.
    #[error("attachment is an archive within an archive")]
    Nested,
}

fn damaged(format: &'static str, cause: impl Into<String>) -> UnpackError {
    UnpackError::Damaged {
        format,
        cause: cause.into(),
    }
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZIP: &[u8] = b"PK\x03\x04";

/// Whether something begins as what [`unpack`] unpacks.
#[must_use]
pub fn is_packed(data: &[u8]) -> bool {
    data.starts_with(GZIP) || data.starts_with(ZIP)
}

/// The file in an attachment; the attachment itself if it is not packed.
///
/// # Errors
/// If it is too large, or damaged.
pub fn unpack(data: &[u8]) -> Result<Vec<u8>, UnpackError> {
    if data.len() > limits::PACKED {
        return Err(UnpackError::Packed(data.len()));
    }
    let unpacked = if data.starts_with(GZIP) {
        read("gzip", MultiGzDecoder::new(data), data.len())?
    } else if data.starts_with(ZIP) {
        zip(data)?
    } else {
        return Ok(data.to_vec());
    };
    if is_packed(&unpacked) {
        return Err(UnpackError::Nested);
    }
    Ok(unpacked)
}

/// Unpacks no more than is allowed for what was sent.
fn read(format: &'static str, from: impl Read, packed: usize) -> Result<Vec<u8>, UnpackError> {
    let allowed = packed
        .saturating_mul(limits::RATIO)
        .clamp(limits::RATIO_FREE, limits::UNPACKED);
    let mut unpacked = Vec::new();
    from.take(allowed as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|e| damaged(format, e.to_string()))?;
    if unpacked.len() > allowed {
        return Err(UnpackError::Bomb { packed, allowed });
    }
    Ok(unpacked)
}

/// A number of `N` bytes, the least significant first.
fn number<const N: usize>(data: &[u8], at: usize) -> Result<usize, UnpackError> {
    let bytes = at
        .checked_add(N)
        .and_then(|end| data.get(at..end))
        .ok_or_else(|| damaged("zip", "it ends too soon"))?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

fn slice(data: &[u8], at: usize, length: usize) -> Result<&[u8], UnpackError> {
    at.checked_add(length)
        .and_then(|end| data.get(at..end))
        .ok_or_else(|| damaged("zip", "a file lies outside of it"))
}

/// A file of an archive, as its directory says.
struct Entry {
    encrypted: bool,
    method: usize,
    crc: usize,
    packed: usize,
    name: Vec<u8>,
    header: usize,
}

/// Length of the record at the end, without its comment.
const END_RECORD: usize = 22;

/// The report in a zip archive: a file whose name says so, or the only one (APPNOTE 6.3.10 §4.3).
fn zip(data: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let entries = directory(data)?;
    let is_report = |entry: &&Entry| {
        let name = entry.name.to_ascii_lowercase();
        name.ends_with(b".xml") || name.ends_with(b".json")
    };
    let ((Some(entry), _) | (None, [entry])) = (entries.iter().find(is_report), entries.as_slice()) else {
        return Err(damaged("zip", "it has no report"));
    };
    if entry.encrypted {
        return Err(damaged("zip", "it is encrypted"));
    }
    if !data.get(entry.header..).is_some_and(|d| d.starts_with(ZIP)) {
        return Err(damaged("zip", "a file has no header"));
    }
    let name = number::<2>(data, entry.header + 26)?;
    let extra = number::<2>(data, entry.header + 28)?;
    let packed = slice(data, entry.header + 30 + name + extra, entry.packed)?;
    let unpacked = match entry.method {
        0 => packed.to_vec(),
        8 => read("zip", DeflateDecoder::new(packed), packed.len())?,
        other => return Err(damaged("zip", format!("method {other} of compression is not known"))),
    };
    let mut crc = Crc::new();
    crc.update(&unpacked);
    if crc.sum() as usize != entry.crc {
        return Err(damaged("zip", "the checksum of a file is wrong"));
    }
    Ok(unpacked)
}

fn directory(data: &[u8]) -> Result<Vec<Entry>, UnpackError> {
    // Behind the record is a comment of at most 65535 bytes.
    let from = data.len().saturating_sub(END_RECORD + usize::from(u16::MAX));
    let last = data.len().checked_sub(END_RECORD);
    let end = last
        .into_iter()
        .flat_map(|last| (from..=last).rev())
        .find(|at| data[*at..].starts_with(b"PK\x05\x06"))
        .ok_or_else(|| damaged("zip", "it has no end"))?;
    let many = number::<2>(data, end + 10)?;
    if many > limits::ENTRIES {
        return Err(damaged("zip", format!("it has {many} files: a report is one")));
    }
    let mut at = number::<4>(data, end + 16)?;
    let mut entries = Vec::with_capacity(many);
    for _ in 0..many {
        if !data.get(at..).is_some_and(|d| d.starts_with(b"PK\x01\x02")) {
            return Err(damaged("zip", "its directory is not where it says"));
        }
        let (name, extra, comment) = (
            number::<2>(data, at + 28)?,
            number::<2>(data, at + 30)?,
            number::<2>(data, at + 32)?,
        );
        let entry = Entry {
            encrypted: number::<2>(data, at + 8)? & 1 != 0,
            method: number::<2>(data, at + 10)?,
            crc: number::<4>(data, at + 16)?,
            packed: number::<4>(data, at + 20)?,
            name: slice(data, at + 46, name)?.to_vec(),
            header: number::<4>(data, at + 42)?,
        };
        at = at + 46 + name + extra + comment;
        if !entry.name.ends_with(b"/") {
            entries.push(entry);
        }
    }
    Ok(entries)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;

    pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// An archive of these files, as zip programs write it. `deflate` packs them.
    pub(crate) fn zip_of(files: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, data) in files {
            let packed = if deflate {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            } else {
                data.to_vec()
            };
            let mut crc = Crc::new();
            crc.update(data);
            let header = out.len() as u32;
            let mut common = Vec::new();
            common.extend([20, 0, 0, 0, if deflate { 8 } else { 0 }, 0, 0, 0, 0, 0]);
            common.extend(crc.sum().to_le_bytes());
            common.extend((packed.len() as u32).to_le_bytes());
            common.extend((data.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0, 0]);
            out.extend(ZIP);
            out.extend(&common);
            out.extend(name.as_bytes());
            out.extend(&packed);
            directory.extend(b"PK\x01\x02\x14\x00");
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend(header.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let start = out.len() as u32;
        out.extend(&directory);
        out.extend(b"PK\x05\x06\0\0\0\0");
        let many = files.len() as u16;
        out.extend(many.to_le_bytes());
        out.extend(many.to_le_bytes());
        out.extend((directory.len() as u32).to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend([0, 0]);
        out
    }

    #[test]
    fn files_come_out_of_archives() {
        let xml: &[u8] = b"<feedback/>";
        assert_eq!(unpack(xml).unwrap(), xml);
        assert_eq!(unpack(&gzip(xml)).unwrap(), xml);
        assert_eq!(unpack(&[gzip(b"<feed"), gzip(b"back/>")].concat()).unwrap(), xml);
        for deflate in [false, true] {
            assert_eq!(unpack(&zip_of(&[("odd", xml)], deflate)).unwrap(), xml);
            let files: &[(&str, &[u8])] = &[("readme.txt", b"x"), ("dir/", b""), ("dir/A.XML", xml)];
            assert_eq!(unpack(&zip_of(files, deflate)).unwrap(), xml);
        }
        let two: &[(&str, &[u8])] = &[("a", b"x"), ("b", b"y")];
        assert!(
            unpack(&zip_of(two, true))
                .unwrap_err()
                .to_string()
                .contains("no report")
        );
    }

    #[test]
    fn bombs_do_not_go_off() {
        let zeros = vec![b' '; limits::UNPACKED + 1];
        for bomb in [gzip(&zeros), zip_of(&[("a.xml", &zeros)], true)] {
            assert!(bomb.len() < 200 << 10, "{}", bomb.len());
            assert!(matches!(unpack(&bomb), Err(UnpackError::Bomb { .. })));
        }
        // Many small members are one stream.
        let piece = gzip(&zeros[..1 << 20]);
        assert!(matches!(unpack(&piece.repeat(100)), Err(UnpackError::Bomb { .. })));
        let inner = gzip(b"<feedback/>");
        assert_eq!(unpack(&gzip(&inner)), Err(UnpackError::Nested));
        assert_eq!(unpack(&zip_of(&[("a.xml", &inner)], false)), Err(UnpackError::Nested));
        let huge = vec![0; limits::PACKED + 1];
        assert_eq!(unpack(&huge), Err(UnpackError::Packed(huge.len())));
        let many: Vec<(String, &[u8])> = (0..=limits::ENTRIES).map(|n| (format!("{n}.xml"), &b"x"[..])).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(n, d)| (n.as_str(), *d)).collect();
        assert!(
            unpack(&zip_of(&many, false))
                .unwrap_err()
                .to_string()
                .contains("17 files")
        );
    }

    #[test]
    fn damage_is_noticed() {
        let whole = zip_of(&[("a.xml", b"<feedback/>")], true);
        for end in 0..whole.len() {
            let _ = unpack(&whole[..end]);
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            if let Ok(unpacked) = unpack(&changed) {
                assert!(unpacked == b"<feedback/>" || unpacked == changed, "{at}");
            }
        }
        assert!(unpack(&gzip(b"<feedback/>")[..15]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(data: Vec<u8>, magic in 0..3usize) {
            let magic: &[u8] = [GZIP, ZIP, b""][magic];
            let _ = unpack(&[magic, &data].concat());
            let _ = unpack(&[ZIP, &data, b"PK\x05\x06", &data].concat());
        }
    }
}
