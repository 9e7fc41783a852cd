//! What a column holds, the same on every engine: nothing, an integer, text, or bytes.
//!
//! Text is compared byte by byte (PostgreSQL's columns have the collation "C"), and the character U+0000, which PostgreSQL
//! cannot keep, is kept as U+FFFD by all.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// One column of one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// SQL's NULL; sorts first here, and is in no order that any query relies on.
    Null,
    /// 64 bits, signed.
    Int(i64),
    /// UTF-8 without U+0000.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Text, if it is.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// The kinds of values that a column may hold, besides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQLite's INTEGER, PostgreSQL's BIGINT.
    Int,
    /// TEXT, with PostgreSQL's collation "C".
    Text,
    /// SQLite's BLOB, PostgreSQL's BYTEA.
    Blob,
}

/// What can be looked for in a column.
pub trait ToValue {
    /// As it is kept.
    fn to_value(&self) -> Value;
}

/// A type that a column's values are read as.
pub trait Column: ToValue + Sized {
    /// What it is kept as.
    const KIND: Kind;
    /// The column may be without a value.
    const NULLABLE: bool = false;
    /// Reads it back; `None` when this is no such value.
    fn from_value(value: Value) -> Option<Self>;
}

impl ToValue for str {
    fn to_value(&self) -> Value {
        Value::Text(if self.contains('\0') { self.replace('\0', "\u{fffd}") } else { self.to_owned() })
    }
}

impl ToValue for String {
    fn to_value(&self) -> Value {
        self.as_str().to_value()
    }
}

impl Column for String {
    const KIND: Kind = Kind::Text;
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl ToValue for Vec<u8> {
    fn to_value(&self) -> Value {
        self.as_slice().to_value()
    }
}

impl Column for Vec<u8> {
    const KIND: Kind = Kind::Blob;
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Blob(bytes) = value { Some(bytes) } else { None }
    }
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> Value {
                // What does not fit is not kept as something else: it sorts last, and cannot be read as this type.
                Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
        impl Column for $type {
            const KIND: Kind = Kind::Int;
            fn from_value(value: Value) -> Option<Self> {
                if let Value::Int(n) = value { n.try_into().ok() } else { None }
            }
        }
    )+};
}
integers!(i64, u64, u32);

impl ToValue for bool {
    fn to_value(&self) -> Value {
        Value::Int(i64::from(*self))
    }
}

impl Column for bool {
    const KIND: Kind = Kind::Int;
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_value)
    }
}

impl<T: Column> Column for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// A value that is kept as JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> ToValue for Json<T> {
    fn to_value(&self) -> Value {
        // Of our own types none fails to be written; one that did could not be read back, which is said then.
        Value::Text(serde_json::to_string(&self.0).unwrap_or_default())
    }
}

impl<T: Serialize + DeserializeOwned> Column for Json<T> {
    const KIND: Kind = Kind::Text;
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Text(text) = value { serde_json::from_str(&text).ok().map(Json) } else { None }
    }
}

/// Types that are kept as the one word (or the one string) that they have in JSON.
macro_rules! words {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::value::ToValue for $type {
            fn to_value(&self) -> $crate::value::Value {
                match serde_json::to_value(self) {
                    Ok(serde_json::Value::String(word)) => $crate::value::Value::Text(word),
                    // Not one of these types is anything but a string; it could not be read back, which is said then.
                    _ => $crate::value::Value::Text(String::new()),
                }
            }
        }
        impl $crate::value::Column for $type {
            const KIND: $crate::value::Kind = $crate::value::Kind::Text;
            fn from_value(value: $crate::value::Value) -> Option<Self> {
                let $crate::value::Value::Text(word) = value else { return None };
                serde_json::from_value(serde_json::Value::String(word)).ok()
            }
        }
    )+};
}
pub(crate) use words;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Int(n) => n.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Blob(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}
