//! Up to two paths, one a line, read in each of the three ways: each agrees with the plain model, a normal form stays as it is, and
//! nothing comes to lie above the root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use token_core::StoragePath;
use token_core_fuzz::model::Path;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(2, '\n');
    let (first, second) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    for line in [first, second] {
        same(StoragePath::parse(line).ok(), Path::of_scope(line), line);
        same(StoragePath::from_request(line).ok(), Path::of_request(line), line);
        same(StoragePath::from_url_path(line).ok(), Path::of_url(line), line);
    }
    if let (Ok(granted), Ok(wanted)) = (StoragePath::parse(first), StoragePath::from_request(second)) {
        let model = Path::of_scope(first).zip(Path::of_request(second));
        let covers = model.is_some_and(|(granted, wanted)| granted.covers(&wanted));
        assert_eq!(granted.covers(&wanted), covers, "{granted:?} {wanted:?}");
        assert_eq!(wanted.below(&granted).is_some(), covers);
        if wanted.leads_to(&granted) {
            assert!(!covers && wanted.as_directory().covers(&granted));
        }
    }
});

fn same(path: Option<StoragePath>, model: Option<Path>, line: &str) {
    assert_eq!(path.is_some(), model.is_some(), "{line:?}: {path:?} {model:?}");
    let Some((path, model)) = path.zip(model) else { return };
    let written = path.to_string();
    // A request may name a file that no scope can name: one with a control character in its name.
    if model.text.chars().any(char::is_control) {
        assert!(StoragePath::parse(&written).is_err());
    } else {
        assert_eq!(StoragePath::parse(&written).as_ref(), Ok(&path), "{line:?}");
        assert_eq!(Path::of_scope(&written), Some(model), "{line:?}");
    }
    assert!(written.is_ascii() && written.starts_with('/'));
    assert!(!written.split('/').any(|element| element == "." || element == ".."));
    assert!(path.covers(&path) && StoragePath::root().covers(&path));
    assert!(path == StoragePath::root() || path.parent().leads_to(&path));
    assert_eq!(path.below(&StoragePath::root()), Some(path.clone()));
    assert!(path.below(&path).is_some_and(|rest| rest == StoragePath::root()));
}
