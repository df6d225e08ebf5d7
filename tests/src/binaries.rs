//! Where the two daemons and the command line tools are: beside this program, built by the cargo that runs it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `conveyor`.
    pub conveyor: PathBuf,
    /// `token-exchange`.
    pub token_exchange: PathBuf,
    /// `wlcg-token`.
    pub wlcg_token: PathBuf,
    /// `fts-client`.
    pub fts_client: PathBuf,
}

impl Binaries {
    /// Builds them with the profile that this program was built with, if cargo runs it; else takes them from beside it. With
    /// `show_build`, cargo says how far it is.
    ///
    /// # Errors
    /// When they can't be built, or are not there.
    pub async fn find(show_build: bool) -> Result<Self> {
        // Tests of one program share what was built: cargo takes a second to see that nothing has changed.
        static FOUND: OnceCell<Binaries> = OnceCell::const_new();
        FOUND.get_or_try_init(|| Self::made(show_build)).await.cloned()
    }

    async fn made(show_build: bool) -> Result<Self> {
        let this = std::env::current_exe()?;
        let folder = this.parent().context("this program is in no folder")?;
        // Tests are in `deps` below the folder of the programs.
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        if let Some(cargo) = std::env::var_os("CARGO") {
            build(cargo, folder, show_build).await?;
        }
        let program = |name: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            ensure!(path.exists(), "{} is not there: `cargo build --workspace` makes it", path.display());
            Ok(path)
        };
        Ok(Self {
            conveyor: program("conveyor")?,
            token_exchange: program("token-exchange")?,
            wlcg_token: program("wlcg-token")?,
            fts_client: program("fts-client")?,
        })
    }
}

async fn build(cargo: OsString, folder: &Path, show: bool) -> Result<()> {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("{} is no target folder", folder.display()),
    };
    let target = folder.parent().context("a target folder")?;
    let status = Command::new(cargo)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args([
            "build",
            "--profile",
            profile,
            "-p",
            "conveyor",
            "-p",
            "token-exchange",
            "-p",
            "token-core",
            "-p",
            "fts-client",
            "--target-dir",
        ])
        .arg(target)
        .args((!show).then_some("--quiet"))
        .stdin(std::process::Stdio::null())
        .status()
        .await
        .context("starting cargo")?;
    ensure!(status.success(), "the daemons could not be built");
    Ok(())
}
