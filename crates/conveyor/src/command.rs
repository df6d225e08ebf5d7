//! The command line.

mod flags;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use daemon::config::Loaded;
use daemon::{Failure, config};

use crate::about::{self, ABOUT};
use crate::rucio_cfg::RucioCfg;
use crate::settings::Settings;
use flags::Flags;

/// Where the configuration file usually is.
const USUAL: &str = "/etc/token-conveyor/conveyor.toml";

/// Submits Rucio's queued transfer requests to FTS with an FTS-audience token.
#[derive(Debug, Parser)]
// A command behind a flag that takes several words is a command.
#[command(name = "conveyor", version, about, subcommand_precedence_over_arg = true)]
pub struct Arguments {
    /// The configuration file (TOML). `CONVEYOR__SECTION__KEY` in the environment overrides a key.
    #[arg(long, value_name = "FILE", global = true, default_value = USUAL)]
    config: PathBuf,
    /// Rucio's own configuration file; what it says of the database, the issuer and the conveyor counts beneath ours.
    #[arg(long, value_name = "FILE", global = true)]
    rucio_cfg: Option<PathBuf>,
    /// Walk the queue once, print what was done, and end. Exit code 0: done; 1: it could not be done now, try again;
    /// 2: the configuration, the client's secret or the database is not right.
    #[arg(long)]
    pub(crate) run_once: bool,
    /// With --run-once or a command: print what there is to say as one JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do instead of submitting. None of these writes to Rucio's database.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at the configuration, --rucio-cfg beneath it included, without starting anything. Flags of the submitter are not shown, nor
    /// what stands in Rucio's table `configs`.
    #[command(subcommand)]
    Config(config::Command),
    /// Look over the configuration, Rucio's database, issuers, each FTS with the token it would get, and storages: a line each, with
    /// what to do. Tokens are asked for; no job is posted. Exit code 0: all good; 1: something is wrong that may pass; 2: something is
    /// to be mended.
    Doctor(daemon::doctor::Options),
    /// Tell of one request whether it would be submitted now and why not, its sources, its token and its job.
    Explain {
        /// The id, with or without dashes.
        #[arg(value_name = "REQUEST")]
        request: String,
    },
    /// Compare what Rucio's own submitter has submitted with what conveyor would have; for a site that runs both. Exit code 1: something
    /// differs, and it is not known why.
    Shadow {
        /// What was submitted in so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        last: u64,
        /// Most requests of each VO, the latest first.
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        most: u32,
    },
    /// Trace a request to its FTS job and the tries before it, or a job to its requests, ended ones among them.
    Trace {
        /// The id of a request, with or without dashes, or of an FTS job.
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl Arguments {
    /// Carries out a command that only looks at the configuration; false if there was none.
    ///
    /// # Errors
    /// When the configuration can't be read or is not right.
    pub fn looked(&self) -> Result<bool, Failure> {
        match &self.command {
            Some(Command::Config(command)) => {
                let load = || self.settings(self.rucio_cfg()?.as_ref());
                ABOUT.run(command, &self.read_from(), load, about::check).map(|()| true)
            }
            Some(
                Command::Explain { .. } | Command::Doctor(_) | Command::Shadow { .. } | Command::Trace { .. },
            )
            | None => Ok(false),
        }
    }

    /// Rucio's own configuration, if it is named.
    ///
    /// # Errors
    /// One line that names the file and the option.
    pub(crate) fn rucio_cfg(&self) -> Result<Option<RucioCfg>, Failure> {
        let read = |path| {
            RucioCfg::read(path).map_err(|line| Failure::Configuration(format!("--rucio-cfg: {line}")))
        };
        self.rucio_cfg.as_deref().map(read).transpose()
    }

    /// The configuration over Rucio's, and with the flags over it.
    ///
    /// # Errors
    /// One line that names the file and the key.
    pub(crate) fn settings(&self, rucio_cfg: Option<&RucioCfg>) -> Result<Loaded<Settings>, Failure> {
        if self.json && !self.run_once && self.command.is_none() {
            return Err(Failure::Configuration("--json goes with --run-once or a command".into()));
        }
        if self.run_once && self.command.is_some() {
            return Err(Failure::Configuration("--run-once does not go with a command".into()));
        }
        let mut loaded = match rucio_cfg {
            None => config::read::<Settings>(&self.config, ABOUT.prefix)?,
            Some(theirs) => {
                let keys =
                    theirs.keys().map_err(|line| Failure::Configuration(format!("--rucio-cfg: {line}")))?;
                let mut loaded = config::read_over_tree::<Settings>(&keys, self.own(), ABOUT.prefix)?;
                theirs.over(&mut loaded);
                loaded
            }
        };
        self.flags.over(&mut loaded.settings);
        Ok(loaded)
    }

    /// The configuration file of ours, if there is to be one.
    fn own(&self) -> Option<&Path> {
        config::own(&self.config, USUAL, self.rucio_cfg.as_deref())
    }

    /// What the configuration is read from, for people.
    pub fn read_from(&self) -> String {
        config::read_from(self.own(), self.rucio_cfg.as_deref())
    }
}
