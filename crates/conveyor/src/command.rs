//! The command line.

mod flags;

use std::path::PathBuf;

use clap::Parser;
use daemon::{Failure, config};

use crate::settings::Settings;
use flags::Flags;

/// Submits Rucio's queued transfer requests to FTS with an FTS-audience token.
#[derive(Debug, Parser)]
#[command(name = "conveyor", version, about)]
pub struct Arguments {
    /// The configuration file (TOML). `CONVEYOR__SECTION__KEY` in the environment overrides a key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Walk the queue once, print what was done, and end. Exit code 0: done; 1: it could not be done now, try again;
    /// 2: the configuration, the client's secret or the database is not right.
    #[arg(long)]
    pub(crate) run_once: bool,
    /// With --run-once: print the report as one JSON object.
    #[arg(long, requires = "run_once")]
    pub(crate) json: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Arguments {
    /// The configuration with the flags over it.
    ///
    /// # Errors
    /// One line that names the file and the key.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let mut settings: Settings = config::load(&self.config, "CONVEYOR")?;
        self.flags.over(&mut settings);
        Ok(settings)
    }

    /// What the configuration was read from, for logs.
    pub fn read_from(&self) -> String {
        self.config.display().to_string()
    }
}
