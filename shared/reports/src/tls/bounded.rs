//! Lists of which only the first items are kept while they are read: a document of a few bytes an item must not become
//! far more than that in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits;

/// The first `MOST` items of a list.
pub(super) struct First<T, const MOST: usize> {
    pub items: Vec<T>,
    /// How many were left out.
    pub omitted: u32,
}

impl<T, const MOST: usize> First<T, MOST> {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn read<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error>
    where
        T: Deserialize<'de>,
    {
        let mut first = Self::default();
        while first.items.len() < MOST {
            match list.next_element()? {
                Some(item) => first.items.push(item),
                None => return Ok(first),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            first.omitted = first.omitted.saturating_add(1);
        }
        Ok(first)
    }
}

impl<T, const MOST: usize> Default for First<T, MOST> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            omitted: 0,
        }
    }
}

impl<T, const MOST: usize> FromIterator<T> for First<T, MOST> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self {
            items: items.into_iter().collect(),
            omitted: 0,
        }
    }
}

impl<T: Serialize, const MOST: usize> Serialize for First<T, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for First<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = First<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                First::read(list)
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// Several lines, or one that some senders don't put into a list, or none.
#[derive(Default)]
pub(super) struct Lines(pub First<String, { limits::POLICY_LINES }>);

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Lines {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Lines;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts, or one")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Lines, A::Error> {
                First::read(list).map(Lines)
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<Lines, E> {
                Ok(Lines(First::from_iter([line.to_owned()])))
            }

            fn visit_unit<E: Error>(self) -> Result<Lines, E> {
                Ok(Lines::default())
            }
        }
        deserializer.deserialize_any(Any)
    }
}
