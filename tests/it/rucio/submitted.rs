//! A database that Rucio's own submitter has worked on, and what it did.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

/// Copies the database of this name, or at this path, to `folder` and lets Rucio's own submitter work on the copy, without any FTS or issuer.
pub(crate) async fn by_rucio(
    programs: &Path,
    folder: &Path,
    name: &str,
    group_bulk: u32,
) -> (PathBuf, Value) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (database, said) = (folder.join("submitted.sqlite"), folder.join("submitted.json"));
    std::fs::copy(tests.join("data").join(name), &database).unwrap();
    let config = folder.join("submitted.cfg");
    let text = format!(
        "[common]\nmulti_vo = true\nloglevel = ERROR\n[database]\ndefault = sqlite:///{}\n[conveyor]\ntransfertool = fts3\n\
         [policy]\npermission = generic\nschema = generic\n",
        database.display()
    );
    std::fs::write(&config, text).unwrap();
    let done = Command::new(programs.join("python"))
        .arg(tests.join("rucio/submit_choices.py"))
        .arg(&said)
        .arg(group_bulk.to_string())
        .env("RUCIO_CONFIG", &config)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    (database, serde_json::from_slice(&std::fs::read(said).unwrap()).unwrap())
}
