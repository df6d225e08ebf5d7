//! What has another name here than where it was recorded.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The recorded server's host, and the one that the grid's FTS writes down.
const HOSTS: (&str, &str) = ("fts-rig.test", "fts-box.test");

/// Tokens and their ids, and ids that were made up.
#[derive(Default)]
pub(crate) struct Names {
    /// `<token:NAME>` and the token.
    pub(crate) tokens: Vec<(String, String)>,
    /// A token's id, recorded and here.
    pub(crate) token_ids: Vec<(String, String)>,
    /// Made-up values by kind: what the recorded one is here.
    made_up: BTreeMap<(&'static str, String), String>,
}

impl Names {
    /// A recorded text in the names of here.
    pub(crate) fn here(&self, text: &str) -> String {
        let names = self.tokens.iter().chain(&self.token_ids);
        names.fold(text.to_owned(), |text, (recorded, here)| text.replace(recorded, here))
    }

    /// The same for every text in a JSON value.
    pub(crate) fn here_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.here(text).into(),
            Value::Array(list) => list.iter().map(|item| self.here_in(item)).collect(),
            Value::Object(object) => {
                let members = object.iter().map(|(key, value)| (key.clone(), self.here_in(value)));
                Value::Object(members.collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    /// Whether two texts are the same but for the host of the server.
    pub(crate) fn same_host(recorded: &str, here: &str) -> bool {
        recorded == HOSTS.0 && here == HOSTS.1
    }

    /// Whether `here` stands for `recorded`, as it did before: one for one.
    pub(crate) fn stands_for(&mut self, kind: &'static str, recorded: &Value, here: &Value) -> bool {
        let (recorded, here) = (recorded.to_string(), here.to_string());
        let taken =
            self.made_up.iter().any(|((of, other), name)| *of == kind && *name == here && *other != recorded);
        !taken && *self.made_up.entry((kind, recorded)).or_insert_with(|| here.clone()) == here
    }

    /// What a made-up text of this kind is here, if it was seen.
    pub(crate) fn made_up(&self, kind: &'static str, recorded: &str) -> Option<String> {
        let name = self.made_up.get(&(kind, Value::from(recorded).to_string()))?;
        serde_json::from_str(name).ok()
    }
}
