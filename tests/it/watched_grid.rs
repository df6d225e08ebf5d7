//! A grid in a folder of its own, and waiting for what is to be seen of it.

use std::time::{Duration, Instant};

use testbed::grid::{Grid, GridSettings};

pub(crate) async fn grid(name: &str) -> (tempfile::TempDir, Grid) {
    let folder = tempfile::Builder::new().prefix(name).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    (folder, grid)
}

pub(crate) async fn until(what: &str, seen: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !seen().await {
        assert!(Instant::now() < end, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
