use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its shape counts")]
struct Whole {
    first: u32,
    file: Option<PathBuf>,
    #[serde(default)]
    many: Vec<Part>,
    part: Option<Part>,
    hours: BTreeMap<String, u32>,
    names: Vec<String>,
    place: Place,
    #[serde(default)]
    mixed: Vec<Mixed>,
}

impl Configuration for Whole {
    fn flattened() -> Vec<Flattened> {
        vec![Flattened::new::<Part>("mixed", &["own"])]
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only its shape counts")]
struct Mixed {
    own: Option<Kind>,
    #[serde(flatten)]
    part: Part,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only its shape counts")]
struct Part {
    kind: Kind,
    wrapped: Wrapped,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    One,
    Two,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only its shape counts")]
struct Wrapped(bool);

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Place;

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(_: String) -> Result<Self, String> {
        Err("no".into())
    }
}

#[test]
fn every_key_of_a_type_is_found() {
    let shape = Shape::of::<Whole>();
    let leaves = [
        "first",
        "file",
        "many.kind",
        "many.wrapped",
        "part.kind",
        "part.wrapped",
        "hours",
        "names",
        "place",
        "mixed.own",
        "mixed.kind",
        "mixed.wrapped",
    ];
    assert_eq!(shape.leaves(), leaves);
    assert_eq!(shape.lists(), ["names"]);
    let keys = &shape.section().unwrap().keys;
    let optional: Vec<&str> = keys.iter().filter(|key| key.optional).map(|key| key.name).collect();
    assert_eq!(optional, ["file", "part"]);
    let own = &keys[7].shape.section().unwrap().keys[0];
    assert_eq!((own.optional, &own.shape), (true, &Shape::Value(&["one", "two"])));
    let part = keys[3].shape.section().unwrap();
    assert_eq!((part.name, &part.keys[0].shape), ("Part", &Shape::Value(&["one", "two"])));
    assert!(matches!(keys[4].shape, Shape::Map(_)) && matches!(keys[5].shape, Shape::List(_)));
    let _ = (Kind::One, Kind::Two);
}
