//! mbox files (RFC 4155): messages one after the other, each below a line that begins with "From ".
//!
//! Of the dialects, "mboxrd" is written: a line of a message that begins with any number of ">" and "From " gets one
//! more ">", so that nothing is lost. Reading takes one away. A "From " line counts only at the start and below an empty
//! line, since other dialects leave such lines in messages as they are.
//!
//! Flags are in the fields Status, X-Status and X-Keywords, which others add to the header and which are not part of
//! the message. Ours are its first fields; when they are, later ones of these names are the message's own.

use mox_proto::mail::v1::{Flag, Flags};
use time::{Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::ToCrlf;
use super::flags::{add_keyword, keyword_names, letters, set_letters};

/// Bytes of a line that are looked at as a whole: longer ones are passed on in pieces.
const LINE_MAX: usize = 64 << 10;
/// Bytes of a header that are kept until it is complete, to take the flags out. A longer one stays as it is.
const HEADER_MAX: usize = 1 << 20;
/// Fields for flags.
const FIELDS: [&str; 3] = ["status", "x-status", "x-keywords"];
/// Letters of Status.
const STATUS: [(u8, Flag); 1] = [(b'R', Flag::Seen)];
/// Letters of X-Status, as mutt, Pine and Dovecot have them.
const X_STATUS: [(u8, Flag); 4] = [
    (b'A', Flag::Answered),
    (b'F', Flag::Flagged),
    (b'D', Flag::Deleted),
    (b'T', Flag::Draft),
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// What is found in a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Bytes of a message, with CRLF.
    Data(Vec<u8>),
    /// The message that the data before was of is complete.
    End(Found),
}

/// What is known of a message beside its bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Number of the line that it begins at, from 1.
    pub line: u64,
    /// Time of the "From " line, in seconds since 1970: of delivery.
    pub received: Option<i64>,
    /// From its fields for flags.
    pub flags: Flags,
}

/// The file is no mbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not in any message: an mbox file begins with a line that begins with \"From \"")]
pub struct NotMbox(pub u64);

/// Reads a file that is given piece by piece, within a bounded amount of memory.
#[derive(Debug)]
pub struct Reader {
    /// What of the current line is known, without its end.
    line: Vec<u8>,
    /// The start of the current line was passed on.
    mid_line: bool,
    number: u64,
    /// The line before was empty, or there is none.
    after_empty: bool,
    message: Option<Found>,
    header: Option<Vec<u8>>,
    /// An empty line that belongs to the message if another follows that is none of mbox.
    held_empty: bool,
    crlf: ToCrlf,
    data: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            line: Vec::new(),
            mid_line: false,
            number: 1,
            after_empty: true,
            message: None,
            header: None,
            held_empty: false,
            crlf: ToCrlf::default(),
            data: Vec::new(),
        }
    }
}

impl Reader {
    /// Takes the next piece, and adds what it holds to `events`.
    ///
    /// # Errors
    /// If the file is none.
    pub fn feed(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), NotMbox> {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.end_line(events)?;
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LINE_MAX {
            // A CR at the end may be half of the line's end.
            let held = usize::from(self.line.last() == Some(&b'\r'));
            let rest = self.line.split_off(self.line.len() - held);
            let part = std::mem::replace(&mut self.line, rest);
            if !self.mid_line {
                self.start_line(&part, events)?;
            } else {
                self.text(&part);
            }
            self.mid_line = true;
        }
        self.flush(events);
        Ok(())
    }

    /// The file ends.
    ///
    /// # Errors
    /// If it is none.
    pub fn finish(mut self, events: &mut Vec<Event>) -> Result<(), NotMbox> {
        if !self.line.is_empty() || self.mid_line {
            // A last line without an end.
            let line = std::mem::take(&mut self.line);
            if self.mid_line {
                self.text(&line);
            } else {
                self.start_line(&line, events)?;
            }
        }
        self.end_message(events);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), NotMbox> {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if std::mem::take(&mut self.mid_line) {
            self.text(&line);
            self.text(b"\n");
            self.after_empty = false;
        } else if line.is_empty() {
            self.empty_line();
        } else if !self.start_line(&line, events)? {
            self.text(b"\n");
        }
        self.number += 1;
        line.clear();
        self.line = line;
        Ok(())
    }

    fn empty_line(&mut self) {
        self.after_empty = true;
        if self.message.is_none() {
            return;
        }
        if let Some(header) = self.header.take() {
            self.end_header(&header);
        } else if self.held_empty {
            self.data.extend_from_slice(b"\r\n");
        }
        self.held_empty = true;
    }

    /// A line that is not empty, or its start. Answers whether it was one between messages.
    fn start_line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<bool, NotMbox> {
        let after_empty = std::mem::replace(&mut self.after_empty, false);
        if after_empty && line.starts_with(b"From ") {
            self.end_message(events);
            self.message = Some(Found {
                line: self.number,
                received: from_line_time(line),
                flags: Flags::default(),
            });
            self.header = Some(Vec::new());
            return Ok(true);
        }
        if self.message.is_none() {
            return Err(NotMbox(self.number));
        }
        if std::mem::take(&mut self.held_empty) {
            self.data.extend_from_slice(b"\r\n");
        }
        let quoted = line.first() == Some(&b'>') && is_from(line);
        self.text(if quoted { &line[1..] } else { line });
        Ok(false)
    }

    /// Bytes of a message.
    fn text(&mut self, bytes: &[u8]) {
        match &mut self.header {
            Some(header) => {
                header.extend_from_slice(bytes);
                if header.len() > HEADER_MAX {
                    let header = std::mem::take(header);
                    self.header = None;
                    self.crlf.piece(&header, &mut self.data);
                }
            }
            None => self.crlf.piece(bytes, &mut self.data),
        }
    }

    /// The header is complete: takes the flags out.
    fn end_header(&mut self, header: &[u8]) {
        let Some(message) = &mut self.message else { return };
        let fields: Vec<_> = crate::headers(header).collect();
        let is_ours = |field: &crate::Field<'_>| FIELDS.iter().any(|name| field.is(name));
        let top = fields.iter().take_while(|f| is_ours(f)).count();
        let mut kept = 0;
        for (n, field) in fields.iter().enumerate().filter(|(_, f)| is_ours(f)) {
            if top > 0 && n >= top {
                break;
            }
            let value = String::from_utf8_lossy(&field.value()).into_owned();
            if field.is("status") {
                set_letters(&mut message.flags, value.bytes(), &STATUS);
            } else if field.is("x-status") {
                set_letters(&mut message.flags, value.bytes(), &X_STATUS);
            } else {
                value
                    .split([' ', ',', '\t'])
                    .for_each(|name| add_keyword(&mut message.flags, name));
            }
            self.crlf.piece(&header[kept..field.start], &mut self.data);
            kept = field.end;
        }
        self.crlf.piece(&header[kept..], &mut self.data);
    }

    fn end_message(&mut self, events: &mut Vec<Event>) {
        if let Some(header) = self.header.take() {
            self.end_header(&header);
        }
        self.held_empty = false;
        self.flush(events);
        if let Some(found) = self.message.take() {
            events.push(Event::End(found));
        }
        self.crlf = ToCrlf::default();
    }

    fn flush(&mut self, events: &mut Vec<Event>) {
        if !self.data.is_empty() {
            events.push(Event::Data(std::mem::take(&mut self.data)));
        }
    }
}

/// Whether a line is "From " behind any number of ">".
fn is_from(line: &[u8]) -> bool {
    let depth = line.iter().take_while(|b| **b == b'>').count();
    line[depth..].starts_with(b"From ")
}

/// The time of a "From " line: "From alice@example.org Mon Jan  1 10:00:00 2024", with a zone before or after the year in
/// some files.
fn from_line_time(line: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(line.get(..line.len().min(998))?).ok()?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let at = words.iter().rposition(|w| MONTHS.contains(w))?;
    let month = MONTHS.iter().position(|m| *m == words[at])? + 1;
    let day = words.get(at + 1)?.parse().ok()?;
    let mut clock = words.get(at + 2)?.split(':');
    let mut number = || -> Option<u8> { clock.next()?.parse().ok() };
    let (hour, minute) = (number()?, number()?);
    let second = number().unwrap_or(0);
    let rest = words.get(at + 3..)?;
    let year: i32 = rest
        .iter()
        .filter(|w| w.len() == 4)
        .find_map(|w| w.parse().ok())
        .filter(|y| (1970..=9999).contains(y))?;
    let zone = rest.iter().find_map(|w| zone_seconds(w)).unwrap_or(0);
    let date = time::Date::from_calendar_date(year, Month::try_from(u8::try_from(month).ok()?).ok()?, day).ok()?;
    let at = PrimitiveDateTime::new(date, Time::from_hms(hour, minute, second.min(59)).ok()?);
    Some(at.assume_utc().unix_timestamp() - zone)
}

/// "+0100" in seconds.
fn zone_seconds(word: &str) -> Option<i64> {
    let (sign, digits) = match word.as_bytes().first()? {
        b'+' => (1, &word[1..]),
        b'-' => (-1, &word[1..]),
        _ => return None,
    };
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: i64 = digits.parse().ok()?;
    Some(sign * (n / 100 * 3600 + n % 100 * 60))
}

/// Writes one message, piece by piece, after what is in the file already.
#[derive(Debug)]
pub struct Writer {
    /// What of the current line is not written yet: it may have to be quoted.
    start: Vec<u8>,
    /// The start of the current line is written.
    mid_line: bool,
    last: u8,
}

impl Writer {
    /// Begins a message: its "From " line, and its flags. `from` is who it was received from; `received` is in seconds
    /// since 1970.
    #[must_use]
    pub fn begin(from: &str, received: i64, flags: &Flags, out: &mut Vec<u8>) -> Self {
        let from: String = from.chars().filter(char::is_ascii_graphic).take(320).collect();
        let from = if from.is_empty() { "MAILER-DAEMON" } else { &from };
        let at = OffsetDateTime::from_unix_timestamp(received).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let day = DAYS[usize::from(at.weekday().number_days_from_monday())];
        let month = MONTHS[usize::from(u8::from(at.month())) - 1];
        let (h, m, s) = at.to_hms();
        let line = format!(
            "From {from} {day} {month} {:2} {h:02}:{m:02}:{s:02} {:04}\n",
            at.day(),
            at.year()
        );
        out.extend_from_slice(line.as_bytes());
        // The first field is always there, so that it is known that those of the message are its own.
        let seen = letters(flags, &STATUS);
        out.extend_from_slice(format!("Status: {seen}O\n").as_bytes());
        let state = letters(flags, &X_STATUS);
        if !state.is_empty() {
            out.extend_from_slice(format!("X-Status: {state}\n").as_bytes());
        }
        let names: Vec<&str> = keyword_names(flags).collect();
        if !names.is_empty() {
            out.extend_from_slice(format!("X-Keywords: {}\n", names.join(" ")).as_bytes());
        }
        Self {
            start: Vec::new(),
            mid_line: false,
            last: b'\n',
        }
    }

    /// Adds bytes of the message.
    pub fn piece(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut text = Vec::with_capacity(bytes.len());
        let held_cr = self.last == b'\r';
        if held_cr && bytes.first() != Some(&b'\n') && !bytes.is_empty() {
            text.push(b'\r');
        }
        super::to_lf(bytes, &mut text);
        if let Some(last) = bytes.last() {
            self.last = *last;
            if *last == b'\r' {
                text.pop();
            }
        }
        for line in text.split_inclusive(|b| *b == b'\n') {
            if self.mid_line {
                out.extend_from_slice(line);
            } else {
                self.start.extend_from_slice(line);
                let decided = line.ends_with(b"\n")
                    || !b"From ".starts_with(self.start.trim_ascii_start_of(b'>'))
                    || self.start.len() > LINE_MAX;
                if !decided && !is_from(&self.start) {
                    continue;
                }
                if is_from(&self.start) {
                    out.push(b'>');
                }
                out.append(&mut self.start);
            }
            self.mid_line = !line.ends_with(b"\n");
        }
    }

    /// Ends the message.
    pub fn end(mut self, out: &mut Vec<u8>) {
        if is_from(&self.start) {
            out.push(b'>');
        }
        out.append(&mut self.start);
        if self.last == b'\r' {
            out.push(b'\r');
        }
        if self.last != b'\n' {
            out.push(b'\n');
        }
        out.push(b'\n');
    }
}

/// What is behind leading bytes of one kind.
trait TrimStart {
    fn trim_ascii_start_of(&self, byte: u8) -> &[u8];
}

impl TrimStart for Vec<u8> {
    fn trim_ascii_start_of(&self, byte: u8) -> &[u8] {
        let n = self.iter().take_while(|b| **b == byte).count();
        &self[n..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(file: &[u8], piece: usize) -> Result<Vec<(Vec<u8>, Found)>, NotMbox> {
        let (mut reader, mut events) = (Reader::default(), Vec::new());
        for piece in file.chunks(piece.max(1)) {
            reader.feed(piece, &mut events)?;
        }
        reader.finish(&mut events)?;
        let (mut messages, mut data) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Data(more) => data.extend(more),
                Event::End(found) => messages.push((std::mem::take(&mut data), found)),
            }
        }
        assert!(data.is_empty());
        Ok(messages)
    }

    #[test]
    fn files_of_others_are_read() {
        let file = b"From MAILER-DAEMON Mon Jan  1 10:00:00 2024\nSubject: a\nStatus: RO\nX-Status: AF\n\
            X-Keywords: NonJunk Work          \n\nbody\nFrom here on\n>From there\n>>From\n\n\
            From 17@xxx Tue Feb 29 23:59:59 +0100 2024\r\nSubject: b\r\n\r\ntwo\r\n\r\n";
        for piece in [1, 2, 7, 1000] {
            let found = read(file, piece).unwrap();
            assert_eq!(found.len(), 2);
            assert_eq!(
                String::from_utf8_lossy(&found[0].0),
                "Subject: a\r\n\r\nbody\r\nFrom here on\r\nFrom there\r\n>>From\r\n"
            );
            let bits = Flag::Seen as u32 | Flag::Answered as u32 | Flag::Flagged as u32 | Flag::Notjunk as u32;
            assert_eq!(found[0].1.flags.bits, bits);
            assert_eq!(found[0].1.flags.keywords, ["work"]);
            assert_eq!((found[0].1.line, found[0].1.received), (1, Some(1_704_103_200)));
            assert_eq!(found[1].0, b"Subject: b\r\n\r\ntwo\r\n");
            assert_eq!((found[1].1.line, found[1].1.received), (12, Some(1_709_247_599)));
        }
        assert_eq!(read(b"", 1).unwrap(), []);
        assert_eq!(read(b"\n\nhello\n", 3), Err(NotMbox(3)));
        let odd = read(b"From -\nSubject: no date\n\nx", 5).unwrap();
        assert_eq!(
            (odd[0].0.as_slice(), odd[0].1.received),
            (&b"Subject: no date\r\n\r\nx"[..], None)
        );
    }

    #[test]
    fn long_lines_and_headers_are_passed_on_in_pieces() {
        let mut file = b"From a Mon Jan  1 10:00:00 2024\nX: ".to_vec();
        file.extend(vec![b'x'; 2 * HEADER_MAX]);
        file.extend(b"\n\n");
        file.extend(vec![b'y'; 3 * LINE_MAX]);
        file.extend(b"\r\nend\n\n");
        let (mut reader, mut events) = (Reader::default(), Vec::new());
        for piece in file.chunks(5000) {
            reader.feed(piece, &mut events).unwrap();
            assert!(reader.line.len() + reader.data.len() < LINE_MAX + 6000);
        }
        reader.finish(&mut events).unwrap();
        let size: usize = events
            .iter()
            .map(|e| if let Event::Data(d) = e { d.len() } else { 0 })
            .sum();
        assert_eq!(size, 3 + 2 * HEADER_MAX + 4 + 3 * LINE_MAX + 2 + 5);
    }

    fn written(messages: &[(Vec<u8>, i64, Flags)], piece: usize) -> Vec<u8> {
        let mut file = Vec::new();
        for (message, received, flags) in messages {
            let mut writer = Writer::begin("a@b", *received, flags, &mut file);
            for piece in message.chunks(piece) {
                writer.piece(piece, &mut file);
            }
            writer.end(&mut file);
        }
        file
    }

    #[test]
    fn a_messages_own_status_stays() {
        let message = b"Status: R\r\nX-Keywords: mine\r\nSubject: x\r\nStatus: RO\r\n\r\nFrom me\r\n".to_vec();
        let file = written(&[(message.clone(), 5, Flags::default())], 4);
        let found = read(&file, 9).unwrap();
        // What is its own at the very top cannot be told from ours, and is all that is lost.
        assert!(String::from_utf8_lossy(&found[0].0).ends_with("Subject: x\r\nStatus: RO\r\n\r\nFrom me\r\n"));
        let message = b"Subject: x\r\nStatus: RO\r\n\r\n>From me\r\n\r\n\r\n".to_vec();
        let file = written(&[(message.clone(), 5, Flags::default())], 4);
        let found = read(&file, 9).unwrap();
        assert_eq!((&found[0].0, &found[0].1.flags), (&message, &Flags::default()));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(file in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
            let mut whole = b"From a\n".to_vec();
            whole.extend(&file);
            let _ = read(&whole, piece);
            let _ = read(&file, piece);
        }

        #[test]
        fn messages_come_back(
            messages in prop::collection::vec((
                "(Subject: [a-z]{0,5}\r\n)(\r\n((>{0,3}From | ?From:?|[a-z>]{0,7}|)\r\n){0,6})?",
                0i64..4_000_000_000,
                0u32..0x7ff,
                prop::collection::btree_set("[a-z]{1,6}", 0..4)), 0..5),
            cut in 1usize..40, piece in 1usize..40,
        ) {
            let messages: Vec<(Vec<u8>, i64, Flags)> = messages.into_iter()
                .map(|(m, at, bits, keywords)| {
                    let reserved = ["forwarded", "junk", "notjunk", "nonjunk", "phishing", "mdnsent"];
                    let keywords = keywords.into_iter().filter(|k| !reserved.contains(&k.as_str())).collect();
                    (m.into_bytes(), at, Flags { bits, keywords })
                }).collect();
            let found = read(&written(&messages, cut), piece).unwrap();
            prop_assert_eq!(found.len(), messages.len());
            for ((data, found), (message, at, flags)) in found.iter().zip(&messages) {
                prop_assert_eq!(String::from_utf8_lossy(data), String::from_utf8_lossy(message));
                prop_assert_eq!(found.received, Some(*at));
                prop_assert_eq!(&found.flags, flags);
            }
        }
    }
}
