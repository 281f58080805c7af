//! What to look for in the dictionary, for a text that is searched.

use memchr::memmem::Finder;

use super::terms::{
    ALL_FIELDS, BODY, Field, Fields, NAME, OTHER, TOKEN_EXACT, TOKENS, VALUE_EXACT, tokens, value_field,
};

/// Where a text is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In fields of this name.
    Header(String),
    /// In the body.
    Body,
    /// In the header or the body.
    Text,
}

/// How a term has to have a text in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Anywhere,
    /// The term begins with it, or it is anywhere in a value or a name.
    First,
    /// The term ends with it, or it is anywhere in a value or a name.
    Last,
    /// It is the term, or anywhere in a value or a name.
    Whole,
    /// It is the term.
    Exactly,
}

/// Terms to be found.
#[derive(Debug)]
pub struct Atom {
    /// In these fields.
    pub fields: Fields,
    pub finder: Finder<'static>,
    mode: Mode,
}

impl Atom {
    fn new(fields: Fields, mode: Mode, text: &str) -> Self {
        Self {
            fields,
            finder: Finder::new(text.as_bytes()).into_owned(),
            mode,
        }
    }

    /// Whether an occurrence in a term counts.
    pub fn accepts(&self, field: Field, term: &[u8], at: usize) -> bool {
        let first = at == 0;
        let last = at + self.finder.needle().len() == term.len();
        match self.mode {
            Mode::Anywhere => true,
            Mode::Exactly => first && last,
            _ if TOKENS & (1 << field) == 0 => true,
            Mode::First => first,
            Mode::Last => last,
            Mode::Whole => first && last,
        }
    }
}

/// How the messages with a text follow from those with terms. Atoms are given by their index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// A message with one of these has the text.
    pub yes: Vec<usize>,
    /// A message with all of these may have it; all others that have none of [`Plan::yes`] do not.
    pub maybe: Option<Vec<usize>>,
}

/// Parts of a text that are looked for at most; the rest is for reading the messages.
const PARTS_MAX: usize = 6;

/// Plans for a folded text; atoms are added to those that others need.
pub fn plan(place: &Place, text: &str, atoms: &mut Vec<Atom>) -> Plan {
    let mut add = |fields, mode, text: &str| {
        atoms.push(Atom::new(fields, mode, text));
        atoms.len() - 1
    };
    match place {
        Place::Header(name) => {
            let name = name.to_ascii_lowercase();
            if let Some(field) = value_field(&name) {
                return if text.len() <= VALUE_EXACT {
                    Plan {
                        yes: vec![add(1 << field, Mode::Anywhere, text)],
                        maybe: None,
                    }
                } else {
                    Plan {
                        yes: vec![],
                        maybe: Some(vec![add(1 << field, Mode::Anywhere, cut(text, VALUE_EXACT))]),
                    }
                };
            }
            if name.is_empty() || !name.is_ascii() {
                return Plan::default(); // Names of fields are neither (RFC 5322 §2.2).
            }
            let is_whole = name.len() <= VALUE_EXACT;
            let mode = if is_whole { Mode::Exactly } else { Mode::Anywhere };
            let named = add(1 << NAME, mode, cut(&name, VALUE_EXACT));
            if text.is_empty() && is_whole {
                return Plan {
                    yes: vec![named],
                    maybe: None,
                };
            }
            let mut all = parts(1 << OTHER, text, &mut add);
            all.push(named);
            Plan {
                yes: vec![],
                maybe: Some(all),
            }
        }
        Place::Body | Place::Text => {
            let fields = if *place == Place::Body { 1 << BODY } else { ALL_FIELDS };
            if !text.is_empty() && text.len() <= TOKEN_EXACT && tokens(text).eq([text]) {
                return Plan {
                    yes: vec![add(fields, Mode::Anywhere, text)],
                    maybe: None,
                };
            }
            let mut yes = Vec::new();
            if !text.is_empty() && text.len() <= VALUE_EXACT && fields & !TOKENS != 0 {
                yes.push(add(fields & !TOKENS, Mode::Anywhere, text));
            }
            Plan {
                yes,
                maybe: Some(parts(fields, text, &mut add)),
            }
        }
    }
}

/// What has to be in a message that has a text: its tokens, of which the first may begin before the text, and the last
/// end after it.
fn parts(fields: Fields, text: &str, add: &mut dyn FnMut(Fields, Mode, &str) -> usize) -> Vec<usize> {
    let mut all: Vec<(Mode, &str)> = tokens(text)
        .map(|token| {
            let start = token.as_ptr() as usize - text.as_ptr() as usize;
            let (first, last) = (start == 0, start + token.len() == text.len());
            if token.len() > TOKEN_EXACT {
                return (Mode::Anywhere, cut(token, TOKEN_EXACT));
            }
            let mode = match (first, last) {
                (true, true) => Mode::Anywhere,
                (true, false) => Mode::Last,
                (false, true) => Mode::First,
                (false, false) => Mode::Whole,
            };
            (mode, token)
        })
        .collect();
    // The longest are the rarest.
    all.sort_by_key(|(_, token)| std::cmp::Reverse(token.len()));
    all.truncate(PARTS_MAX);
    all.into_iter().map(|(mode, token)| add(fields, mode, token)).collect()
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atoms(place: &Place, text: &str) -> (Plan, Vec<(Mode, String)>) {
        let mut atoms = Vec::new();
        let plan = plan(place, text, &mut atoms);
        let text = |a: &Atom| String::from_utf8(a.finder.needle().to_vec()).unwrap();
        (plan, atoms.iter().map(|a| (a.mode, text(a))).collect())
    }

    #[test]
    fn words_are_decided_and_phrases_are_narrowed_down() {
        let (plan, found) = atoms(&Place::Text, "word");
        assert_eq!((plan.yes, plan.maybe), (vec![0], None));
        assert_eq!(found, [(Mode::Anywhere, "word".into())]);
        let (plan, found) = atoms(&Place::Body, "ck brown-f");
        assert_eq!((plan.yes, plan.maybe), (vec![], Some(vec![0, 1, 2])));
        assert_eq!(
            found,
            [
                (Mode::Whole, "brown".into()),
                (Mode::Last, "ck".into()),
                (Mode::First, "f".into())
            ]
        );
        let (plan, _) = atoms(&Place::Body, " - ");
        assert_eq!(plan.maybe, Some(vec![]));
        let (plan, _) = atoms(&Place::Header("From".into()), "a@b.c");
        assert_eq!((plan.yes, plan.maybe), (vec![0], None));
        let (plan, found) = atoms(&Place::Header("X-Spam".into()), "");
        assert_eq!((plan.yes, plan.maybe), (vec![0], None));
        assert_eq!(found, [(Mode::Exactly, "x-spam".into())]);
        let (plan, _) = atoms(&Place::Header("é".into()), "x");
        assert_eq!(plan, Plan::default());
        let long = "x".repeat(TOKEN_EXACT + 1);
        let (plan, found) = atoms(&Place::Body, &long);
        assert_eq!((plan.maybe, found[0].1.len()), (Some(vec![0]), TOKEN_EXACT));
    }
}
