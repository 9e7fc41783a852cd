//! JSON objects that are read as objects only. Serde also takes an array for a struct, its fields in the order in which they are
//! declared; the API's document promises objects, and an order that nobody wrote down is no interface.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// What is read from an object and from nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Map(PhantomData)).map(Self)
    }
}

/// For `#[serde(deserialize_with)]` of a field.
///
/// # Errors
/// What is there is no object, or not that of a `T`.
pub fn one<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// The same for a field that may be `null`.
///
/// # Errors
/// As [`one`].
pub fn maybe<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// The same for a field that is an array of them.
///
/// # Errors
/// As [`one`], for any of them.
pub fn each<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(deserializer)?.into_iter().map(|Object(value)| value).collect())
}

#[cfg(test)]
mod tests {
    use crate::api::{AuditKnown, NewEnrollment, NewPool};
    use crate::object::Object;
    use serde::de::DeserializeOwned;

    fn reads<T: DeserializeOwned>(json: &str) -> bool {
        serde_json::from_str::<Object<T>>(json).is_ok()
    }

    #[test]
    fn an_array_is_not_taken_for_an_object_wherever_it_is() {
        assert!(reads::<NewEnrollment>("{}") && !reads::<NewEnrollment>("[null, null]"));
        let pool = |field: &str| reads::<NewPool>(&format!(r#"{{"name": "a", "image": "b", {field}}}"#));
        assert!(pool(r#""machine": null, "recording": {}"#));
        assert!(!pool(r#""recording": []"#) && !pool(r#""machine": [1024, 2, 1280, 800]"#));
        let head = ["00000000-0000-0000-0000-000000000000", "1", "a"];
        assert!(!reads::<AuditKnown>(&format!(
            r#"{{"heads": [["{}", {}, "{}"]]}}"#,
            head[0], head[1], head[2]
        )));
    }
}
