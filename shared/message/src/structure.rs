//! The tree of MIME parts (RFC 2045, RFC 2046), scanned in one pass over the lines of a message.

use mox_proto::mail::v1::{Envelope, Parameter, Part};

use crate::envelope::{Budget, Builder};
use crate::fields::{Field, field_name, is_empty_line, line_end, without_line_end};
use crate::limits;
use crate::params::{self, is_token};

/// RFC 2046 §5.1.1 allows 70; writers exceed that.
const BOUNDARY_MAX: usize = 256;
/// Languages and parameters of one field.
const ITEMS: usize = 64;
/// What a part's record takes beside its values, for the budget.
const PART_OCTETS: usize = 32;

/// The structure of a message, and its envelope.
pub(crate) fn scan(message: &[u8]) -> (Envelope, Part) {
    scan_with_prefix(b"", message)
}

/// The structure of `prefix` and `message` one after the other, where `prefix` is header fields only.
pub(crate) fn scan_with_prefix(prefix: &[u8], message: &[u8]) -> (Envelope, Part) {
    let mut budget = Budget::new();
    let mut envelope = Builder::new();
    for field in crate::headers(prefix) {
        envelope.add(&field, &mut budget);
    }
    let mut scanner = Scanner {
        message,
        base: prefix.len(),
        position: 0,
        lines: 0,
        boundaries: Vec::new(),
        parts: 0,
        budget,
    };
    let (mut part, ..) = scanner.entity(1, "text", "plain", Some(&mut envelope));
    part.header_offset = 0;
    (envelope.finish(), part)
}

/// Where a scan stopped.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    /// At the delimiter line of the boundary with this index.
    Delimiter {
        boundary: usize,
        closing: bool,
    },
    End,
}

/// An end of a body: its offset, and how many lines lie before it in the message.
#[derive(Clone, Copy)]
struct Mark {
    offset: usize,
    lines: u64,
}

struct Scanner<'a> {
    message: &'a [u8],
    /// Added to all offsets.
    base: usize,
    position: usize,
    /// Line ends before `position`.
    lines: u64,
    /// Of the multiparts that are open, outermost first.
    boundaries: Vec<Vec<u8>>,
    parts: usize,
    budget: Budget,
}

/// What a part's header says.
struct Header {
    media: Option<(String, String)>,
    parameters: Vec<Parameter>,
    disposition: Option<(String, Vec<Parameter>)>,
    encoding: Option<String>,
    languages: Vec<String>,
}

impl Scanner<'_> {
    /// Reads one part from its header on: a message, or what follows a delimiter line. Leaves the position behind the
    /// delimiter line that ended it.
    fn entity(
        &mut self,
        depth: usize,
        default_type: &str,
        default_subtype: &str,
        envelope: Option<&mut Builder>,
    ) -> (Part, Stop, Mark) {
        self.parts += 1;
        self.budget.take(PART_OCTETS);
        let mut part = Part {
            header_offset: self.offset(self.position),
            ..Part::default()
        };
        let (header, stop) = self.header(&mut part, envelope);
        describe(&mut part, header, default_type, default_subtype);
        if let Some((stop, end)) = stop {
            // A delimiter within the header: there is no body.
            part.body_offset = self.offset(end.offset);
            part.end_offset = part.body_offset;
            make_opaque_if_empty(&mut part);
            return (part, stop, end);
        }
        let start = Mark {
            offset: self.position,
            lines: self.lines,
        };
        part.body_offset = self.offset(start.offset);
        let (stop, end) = match part.media_type.as_str() {
            "multipart" => self.multipart(&mut part, depth),
            "message" if is_message(&part.media_subtype) && depth < limits::DEPTH && self.parts < limits::PARTS => {
                let mut inner = Builder::new();
                let (message, stop, end) = self.entity(depth + 1, "text", "plain", Some(&mut inner));
                part.envelope = Some(inner.finish());
                part.message = Some(Box::new(message));
                (stop, end)
            }
            _ => self.body(),
        };
        // The line end before a delimiter can be the empty line's: the body is empty then.
        let end = if end.offset < start.offset { start } else { end };
        part.end_offset = self.offset(end.offset);
        part.lines = self.lines_between(start, end);
        make_opaque_if_empty(&mut part);
        (part, stop, end)
    }

    fn offset(&self, position: usize) -> u64 {
        (self.base + position) as u64
    }

    fn lines_between(&self, start: Mark, end: Mark) -> u64 {
        if end.offset == start.offset {
            return 0;
        }
        // A last line without an end is one too.
        end.lines - start.lines + u64::from(self.message[end.offset - 1] != b'\n')
    }

    /// The rest of a body without structure.
    fn body(&mut self) -> (Stop, Mark) {
        loop {
            let before = Mark {
                offset: self.position,
                lines: self.lines,
            };
            let Some(line) = self.line() else {
                return (Stop::End, before);
            };
            if let Some(stop) = self.delimiter(line) {
                return (stop, self.before_delimiter(before));
            }
        }
    }

    /// RFC 2046 §5.1.1: the line end before a delimiter line belongs to the delimiter.
    fn before_delimiter(&self, mark: Mark) -> Mark {
        let before = &self.message[..mark.offset];
        let rest = without_line_end(before);
        Mark {
            offset: rest.len(),
            lines: mark.lines - u64::from(before.ends_with(b"\n")),
        }
    }

    fn line(&mut self) -> Option<(usize, usize)> {
        if self.position >= self.message.len() {
            return None;
        }
        let start = self.position;
        self.position = line_end(self.message, start);
        self.lines += u64::from(self.message[self.position - 1] == b'\n');
        Some((start, self.position))
    }

    /// Whether a line is the delimiter of an open multipart, innermost first. Transport padding behind it is allowed.
    fn delimiter(&self, (start, end): (usize, usize)) -> Option<Stop> {
        let line = self.message[start..end].strip_prefix(b"--")?.trim_ascii_end();
        let closing = line.strip_suffix(b"--");
        self.boundaries.iter().enumerate().rev().find_map(|(boundary, text)| {
            if line == text {
                Some(Stop::Delimiter {
                    boundary,
                    closing: false,
                })
            } else if closing == Some(text) {
                Some(Stop::Delimiter {
                    boundary,
                    closing: true,
                })
            } else {
                None
            }
        })
    }

    fn multipart(&mut self, part: &mut Part, depth: usize) -> (Stop, Mark) {
        let boundary = params::parameter(&part.parameters, "boundary")
            .unwrap_or_default()
            .into_bytes();
        let boundary = boundary.trim_ascii_end().to_vec();
        if boundary.is_empty() || boundary.len() > BOUNDARY_MAX || depth >= limits::DEPTH {
            return self.body();
        }
        let own = self.boundaries.len();
        self.boundaries.push(boundary);
        // RFC 2046 §5.1.5: parts of a digest are messages unless they say otherwise.
        let (default_type, default_subtype) = if part.media_subtype == "digest" {
            ("message", "rfc822")
        } else {
            ("text", "plain")
        };
        let (mut stop, mut end) = self.body(); // the preamble
        while stop
            == (Stop::Delimiter {
                boundary: own,
                closing: false,
            })
        {
            if self.parts >= limits::PARTS {
                (stop, end) = self.body();
                continue;
            }
            let child;
            (child, stop, end) = self.entity(depth + 1, default_type, default_subtype, None);
            part.parts.push(child);
        }
        self.boundaries.pop();
        if stop
            == (Stop::Delimiter {
                boundary: own,
                closing: true,
            })
        {
            (stop, end) = self.body(); // the epilogue
        }
        (stop, end)
    }

    /// Reads header fields up to and with the empty line. If a delimiter comes first, says so, and where it starts.
    fn header(&mut self, part: &mut Part, mut envelope: Option<&mut Builder>) -> (Header, Option<(Stop, Mark)>) {
        let mut header = Header {
            media: None,
            parameters: Vec::new(),
            disposition: None,
            encoding: None,
            languages: Vec::new(),
        };
        let mut pending: Option<(usize, usize)> = None;
        let mut stop = None;
        loop {
            let before = Mark {
                offset: self.position,
                lines: self.lines,
            };
            let line = self.line();
            if let Some(l) = line
                && let Some(found) = self.delimiter(l)
            {
                stop = Some((found, before));
            }
            let ended = stop.is_some() || line.is_none_or(|(from, to)| is_empty_line(&self.message[from..to]));
            match (line, &mut pending) {
                (Some((from, to)), Some((_, end))) if !ended && matches!(self.message[from], b' ' | b'\t') => *end = to,
                _ => {
                    if let Some((from, to)) = pending.take() {
                        self.field(from, to, part, &mut header, envelope.as_deref_mut());
                    }
                    pending = line.filter(|_| !ended);
                }
            }
            if ended {
                return (header, stop);
            }
        }
    }

    fn field(
        &mut self,
        start: usize,
        end: usize,
        part: &mut Part,
        header: &mut Header,
        envelope: Option<&mut Builder>,
    ) {
        let message = self.message;
        let Some((name, value)) = field_name(&message[start..end]) else {
            return;
        };
        let field = Field {
            name,
            raw: without_line_end(&message[start + value..end]),
            start,
            end,
        };
        if let Some(envelope) = envelope {
            envelope.add(&field, &mut self.budget);
        }
        let Some(rest) = name
            .get(..8)
            .filter(|p| p.eq_ignore_ascii_case(b"content-"))
            .map(|_| &name[8..])
        else {
            return;
        };
        let value = field.value();
        match rest.to_ascii_lowercase().as_slice() {
            b"type" if header.media.is_none() => {
                let s = params::structured(&value, ITEMS);
                // RFC 2045 §5.2: what can't be read is text/plain, and so are its parameters worth nothing.
                header.media = Some(("text".into(), "plain".into()));
                if let Some((t, sub)) = s
                    .value
                    .split_once('/')
                    .filter(|(t, s)| is_token(t.as_bytes()) && is_token(s.as_bytes()))
                {
                    header.media = Some((t.to_owned(), sub.to_owned()));
                    header.parameters = self.keep(s.parameters);
                    self.budget.take(s.value.len());
                }
            }
            b"disposition" if header.disposition.is_none() => {
                let s = params::structured(&value, ITEMS);
                if is_token(s.value.as_bytes()) && self.budget.take(s.value.len()) {
                    header.disposition = Some((s.value, self.keep(s.parameters)));
                }
            }
            b"transfer-encoding" if header.encoding.is_none() => {
                let s = params::structured(&value, 0).value;
                if is_token(s.as_bytes()) && self.budget.take(s.len()) {
                    header.encoding = Some(s.to_ascii_uppercase());
                }
            }
            b"language" if header.languages.is_empty() => {
                let tags = value.split(|b| *b == b',').map(|tag| params::structured(tag, 0).value);
                header.languages = tags.filter(|t| is_token(t.as_bytes())).take(ITEMS).collect();
                let octets = header.languages.iter().map(String::len).sum();
                if !self.budget.take(octets) {
                    header.languages.clear();
                }
            }
            b"id" if part.content_id.is_none() => part.content_id = self.budget.value(&value),
            b"description" if part.description.is_none() => part.description = self.budget.value(&value),
            b"md5" if part.md5.is_none() => part.md5 = self.budget.value(&value),
            b"location" if part.location.is_none() => part.location = self.budget.value(&value),
            _ => {}
        }
    }

    fn keep(&mut self, mut parameters: Vec<Parameter>) -> Vec<Parameter> {
        parameters.retain(|p| p.value.len() <= limits::VALUE && self.budget.take(p.name.len() + p.value.len()));
        parameters
    }
}

fn describe(part: &mut Part, header: Header, default_type: &str, default_subtype: &str) {
    let (media_type, media_subtype) = header
        .media
        .unwrap_or_else(|| (default_type.into(), default_subtype.into()));
    part.media_type = media_type;
    part.media_subtype = media_subtype;
    part.parameters = header.parameters;
    part.encoding = header.encoding.unwrap_or_else(|| "7BIT".into());
    part.languages = header.languages;
    if let Some((disposition, parameters)) = header.disposition {
        part.disposition = Some(disposition);
        part.disposition_parameters = parameters;
    }
}

/// A multipart always has parts, and message/rfc822 always a message, for whoever writes BODYSTRUCTURE. One that has
/// none becomes opaque.
fn make_opaque_if_empty(part: &mut Part) {
    let lacks = match part.media_type.as_str() {
        "multipart" => part.parts.is_empty(),
        "message" => is_message(&part.media_subtype) && part.message.is_none(),
        _ => false,
    };
    if lacks {
        part.media_type = "application".into();
        part.media_subtype = "octet-stream".into();
    }
}

/// RFC 2046 §5.2.1, RFC 6532 §3.7.
fn is_message(subtype: &str) -> bool {
    matches!(subtype, "rfc822" | "global")
}

#[cfg(test)]
#[path = "structure_tests.rs"]
mod tests;
