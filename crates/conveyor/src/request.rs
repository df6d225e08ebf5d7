//! A queued request, as Rucio's database holds it.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use token_core::UnixSeconds;

use crate::topology::RseId;

/// Rucio's id of a request: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RequestId(pub String);

impl RequestId {
    /// Takes an id with or without dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let id: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
        (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(Self(id))
    }
}

/// A request's id in 16 bytes, where many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey(u128);

impl RequestKey {
    /// Of an id as Rucio's Python shows it; what is no id becomes that of nobody.
    pub fn of(id: &str) -> Self {
        Self(u128::from_str_radix(id, 16).unwrap_or_default())
    }

    /// A number below `most` that is as good as random, and the same each time.
    pub fn spread(&self, most: i64) -> i64 {
        i64::try_from(self.0 % u128::from(most.max(1).unsigned_abs())).unwrap_or_default()
    }

    /// The id.
    pub fn id(&self) -> RequestId {
        RequestId(format!("{:032x}", self.0))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `requests.attributes`.
#[derive(Clone, Debug, PartialEq)]
pub enum Attributes {
    /// NULL.
    Missing,
    /// A JSON object.
    Object(Map<String, Value>),
    /// Something else, which stops a whole batch of Rucio's own submitter.
    Unreadable,
}

impl Attributes {
    /// Reads the column.
    pub fn parse(text: Option<&str>) -> Self {
        match text.map(serde_json::from_str) {
            None => Self::Missing,
            Some(_) if text == Some("") => Self::Missing,
            Some(Ok(Value::Object(map))) => Self::Object(map),
            Some(_) => Self::Unreadable,
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(map) => map.get(key),
            _ => None,
        }
    }

    /// A text attribute that is there and not null.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// Whether an attribute that is there counts as true, as Python sees it: null, zero and what is empty do not.
    pub fn truth(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| match value {
            Value::Null => false,
            Value::Bool(truth) => *truth,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        })
    }

    /// `copy_pin_lifetime` as Rucio sends it: 172800 without attributes, -1 without a `lifetime`, and null for a null one.
    pub fn copy_pin_lifetime(&self) -> Option<i64> {
        match self {
            Self::Missing => Some(172_800),
            _ => self.get("lifetime").map_or(Some(-1), Value::as_i64),
        }
    }
}

/// A file that is at an RSE.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Where it is.
    pub rse: RseId,
    /// Its path, where that does not follow from its name.
    pub path: Option<String>,
    /// `sources.ranking`: how well it served earlier tries; more is better.
    pub ranking: i64,
}

/// A queued request, and the replicas it may be served from.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Scope of the file; `scope@vo` outside the default VO.
    pub scope: String,
    /// Name of the file.
    pub name: String,
    /// The rule that wants it.
    pub rule_id: Option<String>,
    /// The activity.
    pub activity: Option<String>,
    /// Size in bytes.
    pub bytes: Option<i64>,
    /// MD5, hex.
    pub md5: Option<String>,
    /// Adler-32, hex.
    pub adler32: Option<String>,
    /// Whose it is.
    pub account: Option<String>,
    /// Attributes.
    pub attributes: Attributes,
    /// 1 to 5.
    pub priority: Option<i64>,
    /// Where it goes.
    pub destination: RseId,
    /// `source_rse_id` while it is young: what the preparer chose or, in a request that was tried before, the source that failed.
    pub prepared_source: Option<RseId>,
    /// Whether it was tried before, as another request.
    pub retried: bool,
    /// How often.
    pub retry_count: i64,
    /// `dids.datatype`, for the message.
    pub datatype: Option<String>,
    /// A dataset that the file is in, where that decides about its path and the attributes name none.
    pub parent: Option<String>,
    /// When it was read from the queue.
    pub seen_at: UnixSeconds,
    /// When it was made (`created_at`).
    pub made_at: Option<UnixSeconds>,
    /// Available replicas elsewhere.
    pub replicas: Vec<Replica>,
}

impl Request {
    /// The scope without the VO.
    pub fn external_scope(&self) -> &str {
        external(&self.scope)
    }

    /// The VO, as the scope tells it; none is the default VO, `def`.
    pub fn vo(&self) -> Option<&str> {
        self.scope.split_once('@').map(|(_, vo)| vo).filter(|vo| *vo != "def")
    }

    /// The dataset that paths on non-deterministic storage are made of.
    pub fn dataset(&self) -> &str {
        let named = self.attributes.text("ds_name").filter(|name| !name.is_empty());
        named.or(self.parent.as_deref()).unwrap_or("other")
    }

    /// The account without the VO.
    pub fn external_account(&self) -> Option<&str> {
        self.account.as_deref().map(external)
    }
}

fn external(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_id_in_short() {
        let id = "00e3de058a4bbd911756baa391fd2401";
        assert_eq!(RequestKey::of(id).id().0, id);
    }

    #[test]
    fn the_pin_lifetime_is_what_rucio_sends() {
        let lifetime = |text: Option<&str>| Attributes::parse(text).copy_pin_lifetime();
        assert_eq!(lifetime(None), Some(172_800));
        assert_eq!(lifetime(Some("{}")), Some(-1));
        assert_eq!(lifetime(Some(r#"{"lifetime": null}"#)), None);
        assert_eq!(lifetime(Some(r#"{"lifetime": 60}"#)), Some(60));
        assert_eq!(Attributes::parse(Some("[]")), Attributes::Unreadable);
    }
}
