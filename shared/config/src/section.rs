//! How a table of the configuration is declared: once, as a struct whose documentation, defaults and types also give
//! the check of a file, with all of its errors, and the annotated description.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::collections::BTreeMap;

/// What a setting looks like in a file.
#[derive(Clone)]
pub enum Shape {
    /// A value that is not taken apart.
    Leaf(Leaf),
    /// A table with fixed fields.
    Table(fn() -> &'static Table),
    /// A list of values or tables.
    List(Box<Shape>),
    /// A table keyed by names that the administrator chooses.
    Map {
        /// What a key is, for the description: `domain`.
        key: &'static str,
        /// An example of a key.
        example: &'static str,
        /// What is wrong with a key, if anything.
        check: fn(&str) -> Result<(), String>,
        /// What each key has.
        value: Box<Shape>,
    },
}

/// A value that is not taken apart.
#[derive(Clone, Copy)]
pub struct Leaf {
    /// What it is, for people: `duration, such as 15s or 7d`.
    pub kind: &'static str,
    /// An example, as TOML.
    pub example: &'static str,
    /// What is wrong with a value, if anything.
    pub check: Check,
}

/// Says what is wrong with a value of a file.
pub type Check = fn(toml::Spanned<toml::de::DeValue<'_>>) -> Result<(), String>;

/// A table with fixed fields.
pub struct Table {
    /// The name of its type.
    pub name: &'static str,
    /// What it is for.
    pub documentation: &'static [&'static str],
    /// Its fields, in the order of the description.
    pub fields: Vec<Field>,
}

/// One field of a table.
pub struct Field {
    /// As in the file.
    pub name: &'static str,
    /// What it does.
    pub documentation: &'static [&'static str],
    /// What it looks like.
    pub shape: Shape,
    /// Whether a file without it is refused.
    pub required: bool,
    /// Whether it is not part of a file, but added by the program.
    pub hidden: bool,
    /// An example as TOML that tells more than the one of its type.
    pub example: Option<&'static str>,
    /// The default as TOML, if it has one that can be written down.
    pub default: fn() -> Option<String>,
}

/// A type that a setting can have.
pub trait Setting {
    /// What it looks like in a file.
    fn shape() -> Shape;
}

/// The check of a leaf: whether it deserializes.
pub fn check_leaf<T: DeserializeOwned>(value: toml::Spanned<toml::de::DeValue<'_>>) -> Result<(), String> {
    T::deserialize(toml::de::ValueDeserializer::from(value))
        .map(drop)
        .map_err(|e| e.message().to_owned())
}

/// The check of a key: whether it deserializes.
pub fn check_key<T: DeserializeOwned>(key: &str) -> Result<(), String> {
    let d: StrDeserializer<'_, serde::de::value::Error> = key.into_deserializer();
    T::deserialize(d).map(drop).map_err(|e| e.to_string())
}

/// A value as TOML on one line, if it can be.
pub fn to_toml<T: serde::Serialize>(value: &T) -> Option<String> {
    let value = toml::Value::try_from(value).ok()?;
    (!value.is_table() && value != toml::Value::Array(Vec::new())).then(|| value.to_string())
}

/// Declares the shape of types that are a single value.
macro_rules! leaf {
    ($($ty:ty: $kind:literal, $example:literal;)+) => {
        $(impl $crate::section::Setting for $ty {
            fn shape() -> $crate::section::Shape {
                $crate::section::Shape::Leaf($crate::section::Leaf {
                    kind: $kind,
                    example: $example,
                    check: $crate::section::check_leaf::<$ty>,
                })
            }
        })+
    };
}
pub(crate) use leaf;

leaf! {
    bool: "true or false", "true";
    u16: "number to 65535", "25";
    u32: "number", "10";
    u64: "number", "1000000";
    i64: "number", "1000000";
    f64: "number", "0.95";
    String: "text", "\"text\"";
    std::path::PathBuf: "path", "\"path\"";
    std::net::IpAddr: "IP address", "\"192.0.2.1\"";
    std::net::SocketAddr: "IP address and port", "\"127.0.0.1:53\"";
    mox_types::Domain: "domain", "\"example.org\"";
    mox_types::Localpart: "localpart of an address", "\"postmaster\"";
    mox_types::Address: "email address", "\"user@example.org\"";
}

impl<T: Setting> Setting for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
}

impl<T: Setting> Setting for std::sync::Arc<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

/// A type that can be the key of a table.
pub trait Key: DeserializeOwned {
    /// What it is, for people.
    const WHAT: &'static str;
    /// An example.
    const EXAMPLE: &'static str;
}

impl Key for String {
    const WHAT: &'static str = "name";
    const EXAMPLE: &'static str = "name";
}
impl Key for mox_types::Domain {
    const WHAT: &'static str = "domain";
    const EXAMPLE: &'static str = "example.org";
}
impl Key for mox_types::Localpart {
    const WHAT: &'static str = "localpart";
    const EXAMPLE: &'static str = "team";
}

impl<K: Key, V: Setting> Setting for BTreeMap<K, V> {
    fn shape() -> Shape {
        Shape::Map {
            key: K::WHAT,
            example: K::EXAMPLE,
            check: check_key::<K>,
            value: Box::new(V::shape()),
        }
    }
}

/// The value of a field that a file does not have.
macro_rules! default_value {
    ($ty:ty, required) => {
        compile_error!("a table with a required field has no default")
    };
    ($ty:ty, required eg $example:literal) => {
        compile_error!("a table with a required field has no default")
    };
    ($ty:ty, = $value:expr) => {
        $value
    };
    ($ty:ty, $($rest:tt)*) => {
        <$ty as Default>::default()
    };
}
pub(crate) use default_value;

/// As [`default_value`], or an early return with an error.
macro_rules! missing {
    ($error:ty, $name:ident, $ty:ty, required $($rest:tt)*) => {
        return Err(<$error as serde::de::Error>::missing_field(stringify!($name)))
    };
    ($error:ty, $name:ident, $ty:ty, $($rest:tt)*) => { $crate::section::default_value!($ty, $($rest)*) };
}
pub(crate) use missing;

/// What the brackets behind a field say.
macro_rules! marks {
    (required) => {
        (true, false, None)
    };
    (required eg $example:literal) => {
        (true, false, Some($example))
    };
    (eg $example:literal) => {
        (false, false, Some($example))
    };
    (hidden) => {
        (false, true, None)
    };
    ($($rest:tt)*) => {
        (false, false, None)
    };
}
pub(crate) use marks;

/// The default of a field as TOML.
macro_rules! default_text {
    (= $value:expr; $ty:ty) => {{
        let value: $ty = $value;
        $crate::section::to_toml(&value)
    }};
    ($($rest:tt)*) => {
        None
    };
}
pub(crate) use default_text;

/// Declares a table: `field: Type [required eg "example as TOML"]`, `[= default]`, `[eg "example"]` or `[hidden]`.
/// With `: Default` behind the name, the table may be left out as a whole.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident: Default {
            $($(#[doc = $field_doc:literal])+ $field:ident: $ty:ty $([$($mark:tt)*])?,)*
        }
    ) => {
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::section::default_value!($ty, $($($mark)*)?),)* }
            }
        }
        $crate::section::section! {
            $(#[doc = $doc])+
            pub struct $name {
                $($(#[doc = $field_doc])+ $field: $ty $([$($mark)*])?,)*
            }
        }
    };
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident {
            $($(#[doc = $field_doc:literal])+ $field:ident: $ty:ty $([$($mark:tt)*])?,)*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: $ty,)*
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Given {
                    $(#[serde(default)] $field: Option<$ty>,)*
                }
                let given = Given::deserialize(deserializer)?;
                Ok(Self {
                    $($field: match given.$field {
                        Some(value) => value,
                        None => $crate::section::missing!(D::Error, $field, $ty, $($($mark)*)?),
                    },)*
                })
            }
        }

        impl $crate::section::Setting for $name {
            fn shape() -> $crate::section::Shape {
                $crate::section::Shape::Table(Self::table)
            }
        }

        impl $name {
            /// Its fields, with their documentation.
            #[must_use]
            pub fn table() -> &'static $crate::section::Table {
                static TABLE: std::sync::OnceLock<$crate::section::Table> = std::sync::OnceLock::new();
                TABLE.get_or_init(|| $crate::section::Table {
                    name: stringify!($name),
                    documentation: &[$($doc),+],
                    fields: vec![$({
                        let (required, hidden, example) = $crate::section::marks!($($($mark)*)?);
                        $crate::section::Field {
                            name: stringify!($field),
                            documentation: &[$($field_doc),+],
                            shape: <$ty as $crate::section::Setting>::shape(),
                            required,
                            hidden,
                            example,
                            default: || $crate::section::default_text!($($($mark)*)?; $ty),
                        }
                    },)*],
                })
            }
        }
    };
}
pub(crate) use section;
