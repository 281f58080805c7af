//! Mail that nobody wrote: messages that look like junk and like other mail, with much in common.
//!
//! Both kinds draw from a language of made-up words, most of them from the common ones. Each message is of a topic of its
//! kind, and has words of the other kind strewn in, some many; some are so short that little can be told. A part is
//! HTML, and a part is in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

const ONSETS: [&str; 16] = [
    "b", "br", "d", "f", "g", "gl", "k", "l", "m", "n", "p", "r", "s", "st", "t", "v",
];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ea", "ou"];
const CODAS: [&str; 8] = ["", "", "n", "r", "s", "l", "t", "nd"];
/// Words that everybody uses.
const COMMON: usize = 1500;
/// Topics of each kind, and words of each.
const TOPICS: (usize, usize) = (12, 150);

pub(super) struct Corpus {
    random: StdRng,
    common: Vec<String>,
    /// Of other mail, and of junk.
    topics: [Vec<Vec<String>>; 2],
    number: u32,
}

impl Corpus {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut words = |many: usize| -> Vec<String> { (0..many).map(|_| word(&mut random)).collect() };
        let common = words(COMMON);
        let topics = [(); 2].map(|()| (0..TOPICS.0).map(|_| words(TOPICS.1)).collect());
        Self {
            random,
            common,
            topics,
            number: 0,
        }
    }

    /// Junk, or other mail.
    pub(super) fn message(&mut self, junk: bool) -> String {
        self.number += 1;
        let n = self.number;
        let length = match self.random.random_range(0..10) {
            0 => self.random.random_range(4..12),
            1..4 => self.random.random_range(12..50),
            _ => self.random.random_range(50..250),
        };
        // How much of it is of the other kind: a newsletter has offers, and junk is padded with what looks harmless.
        let strewn = match self.random.random_range(0..10) {
            0 => 0.25,
            1..4 => 0.1,
            _ => 0.03,
        };
        let topic = self.random.random_range(0..TOPICS.0);
        let text: Vec<String> = (0..length).map(|_| self.word(junk, topic, strewn)).collect();
        let subject: Vec<String> = (0..4).map(|_| self.word(junk, topic, strewn)).collect();
        // People write again and again; who sends junk rarely does.
        let from = match junk {
            true => format!("{}@{}.example", word(&mut self.random), word(&mut self.random)),
            false => format!("{}@people{}.example", self.common[n as usize % 40], n % 7),
        };
        let head = format!(
            "From: <{from}>\r\nTo: <me@example.org>\r\nSubject: {}\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\
             Message-ID: <{n}.{}@{from}>\r\nMIME-Version: 1.0\r\n",
            subject.join(" "),
            self.random.random::<u32>(),
        );
        let lines: Vec<String> = text.chunks(12).map(|line| line.join(" ")).collect();
        match self.random.random_range(0..10) {
            0..3 => {
                let link = self.word(junk, topic, strewn);
                format!(
                    "{head}Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>{}</p>\r\n\
                 <a href=\"https://www.{}.example/{n}\">{}</a></body></html>\r\n",
                    lines.join("</p>\r\n<p>"),
                    self.topics[usize::from(junk)][topic][n as usize % 5],
                    link,
                )
            }
            3 => {
                let coded = STANDARD.encode(lines.join("\r\n"));
                let coded: Vec<&str> = coded
                    .as_bytes()
                    .chunks(76)
                    .map(|line| std::str::from_utf8(line).unwrap_or_default())
                    .collect();
                format!(
                    "{head}Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
                    coded.join("\r\n")
                )
            }
            _ => format!(
                "{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{}\r\n",
                lines.join("\r\n")
            ),
        }
    }

    fn word(&mut self, junk: bool, topic: usize, strewn: f64) -> String {
        let random = &mut self.random;
        if random.random_bool(0.6) {
            // As in any language, a few words are most of it.
            let at = random.random::<f64>().powi(3) * COMMON as f64;
            return self.common[at as usize % COMMON].clone();
        }
        let other = random.random_bool(strewn);
        let topic = if other { random.random_range(0..TOPICS.0) } else { topic };
        let words = &self.topics[usize::from(junk != other)][topic];
        words.choose(random).cloned().unwrap_or_default()
    }
}

fn word(random: &mut StdRng) -> String {
    let mut word = String::new();
    for _ in 0..random.random_range(2..4) {
        for part in [ONSETS.choose(random), VOWELS.choose(random), CODAS.choose(random)] {
            word.push_str(part.copied().unwrap_or_default());
        }
    }
    word
}
