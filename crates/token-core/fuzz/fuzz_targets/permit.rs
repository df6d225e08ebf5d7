//! A scope string, the path of a request and another one, a line each: what is allowed is what the plain model allows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use token_core::{Action, Profile, ScopeSet, StoragePath};
use token_core_fuzz::model::{Deed, Path, permits, storage_scopes};

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or("");
    let (scope, path, to) = (line(), line(), line());
    let (Ok(scopes), Ok(path), Ok(to)) =
        (ScopeSet::parse(scope), StoragePath::from_request(path), StoragePath::from_request(to))
    else {
        return;
    };
    let held = storage_scopes(scope).expect("what token-core takes, the model takes");
    let plain = |text: &str| Path::of_request(text).expect("what token-core takes, the model takes");
    let mut lines = text.splitn(3, '\n').skip(1);
    let (plain_path, plain_to) = (plain(lines.next().unwrap_or("")), plain(lines.next().unwrap_or("")));

    for profile in Profile::ALL {
        for deed in Deed::ALL {
            let action = match deed {
                Deed::Read => Action::Read(&path),
                Deed::Stat => Action::Stat(&path),
                Deed::Create => Action::Create(&path),
                Deed::MakeDirectory => Action::MakeDirectory(&path),
                Deed::Overwrite => Action::Overwrite(&path),
                Deed::Delete => Action::Delete(&path),
                Deed::Stage => Action::Stage(&path),
                Deed::Poll => Action::Poll(&path),
            };
            let expected = permits(&held, deed, &plain_path, profile);
            assert_eq!(scopes.permit(action, profile).is_ok(), expected, "{scope:?} {action:?} {profile}");
        }
        for replaces in [false, true] {
            // One who may create may rename inside what he may create, and never over something.
            let deed = if replaces { Deed::Overwrite } else { Deed::Create };
            let expected = [&plain_path, &plain_to].iter().all(|path| permits(&held, deed, path, profile));
            let action = Action::Rename { from: &path, to: &to, replaces };
            assert_eq!(scopes.permit(action, profile).is_ok(), expected, "{scope:?} {action:?} {profile}");
        }
    }
});
