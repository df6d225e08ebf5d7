//! What must hold for all scopes and paths: one path has many spellings and no spelling climbs, text and set are the same thing, and
//! "within" (`ScopeSet::beyond`) means exactly that nothing more is allowed.

use proptest::prelude::*;
use proptest::sample::Index;
use token_core::{Action, Operation, Profile, Scope, ScopeSet, StoragePath};

/// Names that are easily taken for one another, with a blank, dots, a percent sign and letters outside ASCII among them.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "a b", "...", ".a", "%61", "a%", "é", "a:b", "a+b"])
        .prop_map(str::to_owned)
}

/// One of the ways to write a name in a scope: what must be escaped is, and of the rest what `escaped` says.
fn spelling(name: &str, escaped: &[bool]) -> String {
    let mut text = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"._-~+:".contains(&byte);
        if plain && !escaped[at % escaped.len()] {
            text.push(char::from(byte));
        } else if at % 2 == 0 {
            text.push_str(&format!("%{byte:02X}"));
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    text
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(name(), 0..4)
}

fn escapes() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 1..6)
}

fn written(names: &[String], directory: bool, escaped: &[bool]) -> String {
    let path: String = names.iter().map(|name| format!("/{}", spelling(name, escaped))).collect();
    if path.is_empty() || directory { path + "/" } else { path }
}

fn path() -> impl Strategy<Value = StoragePath> {
    (names(), any::<bool>()).prop_map(|(names, directory)| parse(&written(&names, directory, &[false])))
}

#[expect(clippy::unwrap_used, reason = "a path that is normal by its making")]
fn parse(text: &str) -> StoragePath {
    StoragePath::parse(text).unwrap()
}

/// Every operation as often as the next; some items that are no storage scopes.
fn scope() -> impl Strategy<Value = Scope> {
    let operations = ["read", "create", "modify", "stage", "poll"];
    let other =
        ["fts", "offline_access", "compute.read", "compute.create", "storage.readx:/a", "wlcg.groups:/a"];
    let storage = (prop::sample::select(operations.to_vec()), path())
        .prop_map(|(name, path)| format!("storage.{name}:{path}"));
    let other = prop::sample::select(other.to_vec()).prop_map(str::to_owned);
    prop_oneof![5 => storage, 1 => other].prop_filter_map("a scope", |item| Scope::parse(&item).ok())
}

fn scopes() -> impl Strategy<Value = ScopeSet> {
    prop::collection::vec(scope(), 0..4).prop_map(|items| items.into_iter().collect())
}

/// How one item of a set is made narrower: which, by what weaker right, and how much further down.
fn narrowing() -> impl Strategy<Value = Vec<(Index, bool, Vec<String>)>> {
    prop::collection::vec((any::<Index>(), any::<bool>(), names()), 0..4)
}

fn narrow(wide: &ScopeSet, how: &[(Index, bool, Vec<String>)]) -> ScopeSet {
    let items: Vec<&Scope> = wide.iter().collect();
    if items.is_empty() {
        return ScopeSet::default();
    }
    let narrower = |(which, weaker, below): &(Index, bool, Vec<String>)| match which.get(&items) {
        Scope::Storage(operation, path) => {
            let operation = match operation {
                Operation::Modify if *weaker => Operation::Create,
                Operation::Stage if *weaker => Operation::Poll,
                other => *other,
            };
            let path = match below.is_empty() {
                true => path.clone(),
                false => {
                    let above = path.to_string();
                    parse(&format!("{}{}", above.trim_end_matches('/'), written(below, *weaker, &[false])))
                }
            };
            Scope::Storage(operation, path)
        }
        other => (*other).clone(),
    };
    how.iter().map(narrower).collect()
}

fn actions<'a>(path: &'a StoragePath, to: &'a StoragePath) -> Vec<Action<'a>> {
    vec![
        Action::Read(path),
        Action::Stat(path),
        Action::Create(path),
        Action::MakeDirectory(path),
        Action::Overwrite(path),
        Action::Delete(path),
        Action::Rename { from: path, to, replaces: false },
        Action::Rename { from: path, to, replaces: true },
        Action::Stage(path),
        Action::Poll(path),
    ]
}

/// The paths at which two sets may differ: those of their scopes, one above, one below, and the same as a directory.
fn places(set: &ScopeSet) -> Vec<StoragePath> {
    let granted = set.iter().filter_map(|scope| match scope {
        Scope::Storage(_, path) => Some(path),
        _ => None,
    });
    granted
        .flat_map(|path| {
            let below = parse(&format!("{}/below", path.to_string().trim_end_matches('/')));
            [path.clone(), path.parent(), path.as_directory(), below]
        })
        .collect()
}

/// What a scope allows and no weaker one does, by the newest profile; nothing for a scope that is no capability.
fn witness(scope: &Scope) -> Option<Action<'_>> {
    match scope {
        Scope::Storage(Operation::Read, path) => Some(Action::Read(path)),
        Scope::Storage(Operation::Create, path) => Some(Action::Create(path)),
        Scope::Storage(Operation::Modify, path) => Some(Action::Delete(path)),
        Scope::Storage(Operation::Stage, path) => Some(Action::Stage(path)),
        Scope::Storage(Operation::Poll, path) => Some(Action::Poll(path)),
        Scope::Compute(compute) => Some(Action::Job(*compute)),
        _ => None,
    }
}

/// Within, if and only if nothing more is allowed.
fn agrees(wanted: &ScopeSet, held: &ScopeSet, path: &StoragePath) -> Result<(), TestCaseError> {
    let beyond = wanted.beyond(held);
    for scope in beyond.iter() {
        prop_assert!(wanted.iter().any(|item| item == scope));
        match witness(scope) {
            Some(action) => {
                prop_assert!(wanted.permit(action, Profile::V1_3).is_ok(), "{wanted} {action:?}");
                prop_assert!(held.permit(action, Profile::V1_3).is_err(), "{held} {action:?}");
            }
            None => prop_assert!(held.iter().all(|item| item != scope)),
        }
    }
    if !beyond.is_empty() {
        return Ok(());
    }
    let places = [places(wanted), places(held), vec![path.clone()]].concat();
    for (place, to) in places.iter().zip(places.iter().rev()) {
        for profile in Profile::ALL {
            for action in actions(place, to) {
                let allowed = wanted.permit(action, profile).is_ok();
                prop_assert!(!allowed || held.permit(action, profile).is_ok(), "{action:?} {profile}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_refused_or_comes_back_the_same(text in "/[a-z%0-9./ ~é+]{0,30}") {
        if let Ok(path) = StoragePath::parse(&text) {
            prop_assert_eq!(StoragePath::parse(&path.to_string()), Ok(path.clone()));
            prop_assert!(path.covers(&path));
            prop_assert!(StoragePath::root().covers(&path));
        }
    }

    #[test]
    fn all_spellings_are_one_path(names in names(), directory: bool, one in escapes(), other in escapes()) {
        let path = parse(&written(&names, directory, &one));
        prop_assert_eq!(&parse(&written(&names, directory, &other)), &path);
        // A request comes decoded, and as a file system reads it.
        let noise = names.iter().map(|name| format!("//./x/../{name}")).collect::<String>() + "/";
        prop_assert_eq!(StoragePath::from_request(&noise), Ok(path.as_directory()));
        let climbing = noise + &"../".repeat(names.len() + 1);
        prop_assert!(StoragePath::from_request(&climbing).is_err());
    }

    #[test]
    fn no_spelling_climbs(names in names(), at: Index, directory: bool, one in escapes(), bad in
        prop::sample::select(vec!["", ".", "..", "%2e", ".%2E", "%2e%2e", "a%2fb", "%00", "%0a", "%", "%4", "%zz", "%ff", "a b"]))
    {
        let mut elements: Vec<String> = names.iter().map(|name| spelling(name, &one)).collect();
        elements.insert(at.index(elements.len() + 1), bad.to_owned());
        let text = format!("/{}{}", elements.join("/"), if directory || elements.len() == 1 { "/" } else { "" });
        // An empty element at the end is a slash at the end, which is another matter.
        prop_assume!(!(bad.is_empty() && elements.last().is_some_and(String::is_empty) && !text.ends_with("//")));
        prop_assert!(StoragePath::parse(&text).is_err(), "{}", text);
        // One bad path spoils the whole scope string: the profile has the token refused.
        let scope = format!("fts storage.read:/ storage.modify:{text}");
        prop_assert!(text.contains(' ') || ScopeSet::parse(&scope).is_err(), "{}", scope);
    }

    #[test]
    fn boundaries_are_elements(names in names(), last in name(), more in name(), directory: bool, below in names()) {
        let with = |last: String, below: &[String], directory: bool| {
            let names = [names.as_slice(), &[last], below].concat();
            parse(&written(&names, directory, &[false]))
        };
        let granted = with(last.clone(), &[], directory);
        let longer = with(last.clone() + &more, &below, false);
        prop_assert!(!granted.covers(&longer));
        prop_assert!(!granted.covers(&granted.parent()));
        // A slash at the end: the directory and what is in it, and no file of that name.
        prop_assert!(granted.covers(&with(last.clone(), &below, true)));
        prop_assert_eq!(granted.covers(&with(last, &below, false)), !(directory && below.is_empty()));
    }

    #[test]
    fn text_and_set_are_the_same_thing(set in scopes(), again in any::<Index>()) {
        let text = set.to_string();
        prop_assert_eq!(ScopeSet::parse(&text), Ok(set));
        let items: Vec<&str> = text.split(' ').collect();
        let (end, start) = items.split_at(again.index(items.len()));
        let shuffled = format!(" {}  {} {}", start.join("  "), end.join(" "), again.get(&items));
        prop_assert_eq!(ScopeSet::parse(&shuffled).map(|set| set.to_string()), Ok(text));
    }

    #[test]
    fn within_is_reflexive_and_transitive(a in scopes(), b in scopes(), c in scopes(), how in narrowing(), on in narrowing()) {
        prop_assert!(a.beyond(&a).is_empty());
        prop_assert!(!(a.beyond(&b).is_empty() && b.beyond(&c).is_empty()) || a.beyond(&c).is_empty());
        // Three random sets are seldom within each other; these always are.
        let b = narrow(&c, &how);
        let a = narrow(&b, &on);
        prop_assert!(b.beyond(&c).is_empty(), "{b} in {c}");
        prop_assert!(a.beyond(&b).is_empty() && a.beyond(&c).is_empty(), "{a} in {b} in {c}");
    }

    #[test]
    fn within_means_that_nothing_more_is_allowed(a in scopes(), b in scopes(), how in narrowing(), path in path()) {
        let narrow = narrow(&b, &how);
        agrees(&narrow, &b, &path)?;
        agrees(&b, &narrow, &path)?;
        agrees(&a, &b, &path)?;
        agrees(&a.iter().chain(narrow.iter()).cloned().collect(), &b, &path)?;
    }
}
