//! JSON that is copied while it is read, without a tree of its values.

use std::fmt::{Formatter, Write as _};

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The text of any JSON value.
#[derive(Debug)]
pub(super) struct JsonText(pub(super) String);

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Enough for the metadata of a child, and only for a moment.
        let mut text = String::with_capacity(512);
        Copy(&mut text).deserialize(deserializer)?;
        Ok(Self(text))
    }
}

/// Appends what it reads to a text.
struct Copy<'a>(&'a mut String);

impl Copy<'_> {
    fn write<E: Error>(self, value: impl std::fmt::Display) -> Result<(), E> {
        write!(self.0, "{value}").map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copy<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.write("null")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.write(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.write(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.write(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.write(serde_json::to_string(&value).map_err(E::custom)?)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        if value.bytes().any(is_escaped) {
            return self.write(serde_json::to_string(value).map_err(E::custom)?);
        }
        self.0.push('"');
        self.0.push_str(value);
        self.0.push('"');
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push('[');
        while items.next_element_seed(Copy(self.0))?.is_some() {
            self.0.push(',');
        }
        end(self.0, ']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.push('{');
        while fields.next_key_seed(Copy(self.0))?.is_some() {
            self.0.push(':');
            fields.next_value_seed(Copy(self.0))?;
            self.0.push(',');
        }
        end(self.0, '}');
        Ok(())
    }
}

/// Replaces the comma after the last item, if there is one.
fn end(text: &mut String, bracket: char) {
    if text.ends_with(',') {
        text.pop();
    }
    text.push(bracket);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn copied(value: &Value) -> Value {
        let JsonText(text) = serde_json::from_str(&value.to_string()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn any_kind_of_value_is_copied() {
        let value = json!({
            "": [], "a": {}, "b": [null, true, false, [1], {"x": -2}], "c": 1.5, "d": u64::MAX,
            "k:{\"uid\":\"0001\"}": ",", "e": [","], "f": "a\"b\\c\n\u{1}é",
        });
        assert_eq!(copied(&value), value);
    }

    proptest! {
        #[test]
        fn any_text_is_copied(key: String, values: Vec<String>) {
            let value = json!({ key: values });
            prop_assert_eq!(copied(&value), value);
        }
    }
}
