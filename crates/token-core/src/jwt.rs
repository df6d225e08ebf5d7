//! The form of a token: three parts, JSON objects without a member twice.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// A token taken apart; nothing of it is checked.
pub(crate) struct Parts<'a> {
    pub(crate) header: Object,
    pub(crate) claims: Object,
    /// What was signed: header, dot, claims.
    pub(crate) signed: &'a str,
    /// base64url.
    pub(crate) signature: &'a str,
}

/// Takes a JWS in compact form apart (RFC 7515 section 7.1); `None` when it is none, or has a member twice.
pub(crate) fn take_apart(token: &str) -> Option<Parts<'_>> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    if claims.contains('.') {
        return None;
    }
    Some(Parts { header: object(header)?, claims: object(claims)?, signed, signature })
}

fn object(part: &str) -> Option<Object> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Strict(Value::Object(object)) => Some(object),
        Strict(_) => None,
    }
}

/// A JSON value in which no object has a member twice: parsers differ in which of the two they take.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without a member twice")
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a member stands twice"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(json: &str) -> Option<Object> {
        object(&URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        assert!(part(r#"{"a":1,"b":{"a":[1.5,null,true,"x"]}}"#).is_some());
        assert!(part(r#"{"a":1,"a":1}"#).is_none());
        assert!(part(r#"{"b":[{"a":1,"a":2}]}"#).is_none());
    }

    #[test]
    fn three_parts_of_unpadded_base64url() {
        let empty = URL_SAFE_NO_PAD.encode("{}");
        assert!(take_apart(&format!("{empty}.{empty}.c2ln")).is_some());
        for bad in ["", "a", "a.b", "e30.e30", "e30.e30.x.y", "e30=.e30.x", "W10.e30.x", "e30.e30"] {
            assert!(take_apart(bad).is_none(), "{bad}");
        }
        // A deep nest is an error, not an overflow of the stack.
        assert!(part(&format!("{{\"a\":{}", "[".repeat(100_000))).is_none());
    }
}
