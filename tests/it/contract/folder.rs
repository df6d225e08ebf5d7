//! A folder of recordings.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The recordings of the folder that `environment` names, or else of `data/contract/<default>`: file name without its end,
/// and content. Files that begin with an underscore are about the folder.
pub(crate) fn recordings(environment: &str, default: &str) -> Result<Vec<(String, Value)>> {
    let folder = std::env::var_os(environment).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("data/contract").join(default),
        PathBuf::from,
    );
    let reading = || format!("reading the recordings in {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('_') || path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let content = serde_json::from_slice(&content).with_context(|| format!("in {}", path.display()))?;
        found.push((name.to_owned(), content));
    }
    ensure!(!found.is_empty(), "there are no recordings in {}", folder.display());
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}
