//! Paths on storage where they do not follow from a file's name alone: DQ2's convention, which is Rucio's default.

/// What a dataset's name is cut at, and what a tag's.
const DATASET_ENDS: [&str; 3] = ["_dis", "_sub", "_frag"];
const TAG_ENDS: [&str; 3] = ["_dis", "_sub", "_tid"];

/// The path of a file of a dataset.
pub(super) fn path(dataset: &str, file: &str) -> String {
    let fields: Vec<&str> = dataset.split('.').collect();
    let last = fields.last().copied().unwrap_or_default();
    let folder = match dataset.rfind('.') {
        Some(dot) => format!("{}.{}", &dataset[..dot], cut(last, DATASET_ENDS)),
        None => cut(last, DATASET_ENDS).to_owned(),
    };
    match fields.as_slice() {
        [] | [_] => format!("/other/{folder}/{file}"),
        [project, _] => format!("/{project}/{folder}/{file}"),
        [project, second, third, rest @ ..] if rest.len() < 2 || personal(project) => {
            format!("/{project}/{second}/{third}/{folder}/{file}")
        }
        [project, _, _, _, kind] => format!("/{project}/{kind}/other/{folder}/{file}"),
        [project, _, _, _, kind, ..] => {
            format!("/{project}/{kind}/{}/{folder}/{file}", cut(last, TAG_ENDS))
        }
        // Three fields or more are one of the last three.
        _ => format!("/other/{folder}/{file}"),
    }
}

/// Rucio asks for `user*` or `group*` as regular expressions: the last letter may be missing.
fn personal(project: &str) -> bool {
    project.starts_with("use") || project.starts_with("grou")
}

fn cut<'a>(text: &'a str, ends: [&str; 3]) -> &'a str {
    ends.iter().fold(text, |text, end| text.find(end).map_or(text, |at| &text[..at]))
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn paths_follow_the_dataset() {
        for (dataset, expected) in [
            ("data18.x.phys.merge.AOD.f1_m2_tid7", "/data18/AOD/f1_m2/data18.x.phys.merge.AOD.f1_m2_tid7/f"),
            ("data18.x.phys.merge.AOD", "/data18/AOD/other/data18.x.phys.merge.AOD/f"),
            ("a.b.c.d", "/a/b/c/a.b.c.d/f"),
            ("a.b_dis01.c_frag2", "/a/b_dis01/c_frag2/a.b_dis01.c/f"),
            ("a.b_sub1", "/a/a.b/f"),
            ("a_dis1", "/other/a/f"),
            ("used.b.c.d.e.f_frag1", "/used/b/c/used.b.c.d.e.f/f"),
        ] {
            assert_eq!(path(dataset, "f"), expected);
        }
    }
}
