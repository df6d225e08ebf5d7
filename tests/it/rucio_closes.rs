//! Rucio's own poller and finisher, from PyPI, close what `conveyor` submitted: they find the rows and metadata they expect.
//!
//! Needs `RUCIO_BIN`, a folder with Rucio's programs; `./tests/run` makes one.
#![expect(clippy::unwrap_used, reason = "tests")]

use testbed::grid::{Grid, GridSettings};
use testbed::job::{Trouble, run_to_end};

#[path = "interop/needed.rs"]
mod needed;
#[path = "rucio/programs.rs"]
mod programs;

#[tokio::test(flavor = "multi_thread")]
async fn rucios_poller_and_finisher_bring_every_rule_to_ok() {
    let Some(rucio) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let folder = tempfile::Builder::new().prefix("rucio").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    assert!(run_to_end(&grid, Trouble::default()).await.unwrap().is_whole());
    programs::expect_closed(&grid, &rucio).await;
}
