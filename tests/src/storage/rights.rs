//! What a token gives at one storage.

use token_core::Operation;

use super::request::elements;

const OPERATIONS: [Operation; 5] =
    [Operation::Read, Operation::Create, Operation::Modify, Operation::Stage, Operation::Poll];

/// The rights of a token: operations, each on a path relative to the base path.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    held: Vec<(Operation, Vec<String>)>,
    /// Compare paths as strings.
    flaws: bool,
}

impl Rights {
    /// Reads a scope string as SciTokens does: the path of an item stands for itself, no escape is decoded (observed: fts.md
    /// section j). With `restricted` paths, an item whose path is not at or below one of them gives nothing.
    pub(super) fn read(scope: &str, restricted: &[Vec<String>], flaws: bool) -> Self {
        let held = scope.split(' ').filter_map(|item| {
            let (name, path) = item.split_once(':')?;
            let operation = OPERATIONS.into_iter().find(|operation| operation.name() == name)?;
            let path = resolved(elements(path))?;
            let given = restricted.is_empty() || restricted.iter().any(|within| path.starts_with(within));
            given.then_some((operation, path))
        });
        Self { held: held.collect(), flaws }
    }

    /// Whether one of `operations` is allowed on `path`. Section 2.2.1 of the profile: a path covers what is equal or below at
    /// the boundary of an element. A slash at its end means nothing here, as observed.
    pub(super) fn allow(&self, operations: &[Operation], path: &[String]) -> bool {
        let covers = |above: &[String]| {
            if self.flaws { path.join("/").starts_with(&above.join("/")) } else { path.starts_with(above) }
        };
        self.held.iter().any(|(held, above)| operations.iter().any(|o| held.covers(*o)) && covers(above))
    }
}

/// Without `..`; nothing when it climbs over the root. Only with the flaws on does such a path come here.
fn resolved(path: Vec<String>) -> Option<Vec<String>> {
    path.into_iter().try_fold(Vec::new(), |mut done, element| {
        if element == ".." {
            done.pop()?;
        } else if element != "." {
            done.push(element);
        }
        Some(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(scope: &str, restricted: &[&str], flaws: bool, operation: Operation, path: &str) -> bool {
        let restricted: Vec<_> = restricted.iter().map(|path| elements(path)).collect();
        Rights::read(scope, &restricted, flaws).allow(&[operation], &elements(path))
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below() {
        let read = |scope, path| allows(scope, &[], false, Operation::Read, path);
        assert!(
            read("storage.read:/d", "/d") && read("storage.read:/d", "/d/f") && read("storage.read:/", "/d")
        );
        assert!(read("storage.read:/d/", "/d"), "a slash at the end is harmless (observed)");
        assert!(!read("storage.read:/d", "/df") && !read("storage.read:/d/f", "/d"));
        assert!(!read("storage.modify:/d", "/d/f"), "reading is not implied");
        assert!(
            read("storage.read:/p%c", "/p%c") && !read("storage.read:/p%25c", "/p%c"),
            "compared literally"
        );
        assert!(allows("storage.modify:/d", &[], false, Operation::Create, "/d/f"));
    }

    #[test]
    fn a_scope_above_the_restricted_paths_gives_nothing() {
        let modify = |scope, path| allows(scope, &["/data"], false, Operation::Modify, path);
        assert!(modify("storage.modify:/data", "/data/f") && modify("storage.modify:/data/x", "/data/x/f"));
        assert!(!modify("storage.modify:/", "/data/f") && !modify("storage.modify:/secret", "/secret/f"));
        assert!(!modify("storage.modify:/database", "/database/f"));
    }

    #[test]
    fn the_flaws_of_5_5_3_let_more_pass() {
        let read = |scope, flaws| allows(scope, &["/data"], flaws, Operation::Read, "/data/ops1");
        assert!(read("storage.read:/data/op", true) && !read("storage.read:/data/op", false));
        assert!(read("storage.read:/home/../data", true) && !read("storage.read:/../data", true));
    }
}
