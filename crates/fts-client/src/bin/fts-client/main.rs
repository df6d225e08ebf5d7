//! `fts-client`: submits transfers to FTS3, watches, changes and lists them.
//!
//! Data goes to standard output, everything else to standard error. A token is taken as WLCG Bearer Token Discovery has it or
//! from a file, never as an argument, where other users could see it.

mod ban;
mod change;
mod connect;
mod failure;
mod list;
mod options;
mod progress;
mod show;
mod status;
mod submit;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use connect::Connect;
use failure::Failure;
use show::Screen;

/// Submits transfers to FTS3, watches, changes and lists them.
#[derive(Parser)]
#[command(name = "fts-client", version, after_help = HELP)]
pub(crate) struct Arguments {
    /// Print JSON: one object, or one list.
    #[arg(short = 'j', long, global = true)]
    json: bool,
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Exit codes:
  0  done; of a job that was waited for: all files are there
  1  not now: FTS cannot be reached or has no room, and nothing was changed; try again
  2  to be mended first: wrong usage, a file, the token or a right that is missing
  3  refused for good, or no such job
  4  a job that was waited for ended without all its files
  5  outcome unknown: the job may be there; the line says how to look

From nothing to a finished transfer:
  export FTS_URL=https://fts.example.org:8446
  export BEARER_TOKEN_FILE=token            # its audience is the FTS, its scope what the transfer needs
  fts-client whoami
  fts-client submit --blocking davs://a.example.org/data/f davs://b.example.org/data/f";

#[derive(Subcommand)]
enum Command {
    /// Submit a job and print its id.
    Submit(Box<submit::Submit>),
    /// Show how far jobs are.
    Status(status::Status),
    /// Cancel jobs, or single files of a job. A file in TOKEN_PREP is left as it is: FTS still copies it if its tokens come.
    Cancel(change::Cancel),
    /// Change the priority of jobs.
    Priority(change::SetPriority),
    /// List jobs; without --state, those that have not ended.
    List(list::List),
    /// Say who FTS takes us for.
    Whoami,
    /// Say which versions the server has.
    Server,
    /// List, add and remove bans of storages and users. A ban holds for your VO.
    #[command(subcommand)]
    Ban(ban::Ban),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new(arguments.json);
    let connect = &arguments.connect;
    let done = match &arguments.command {
        Command::Submit(submit) => submit.run(connect, &screen).await,
        Command::Status(status) => status.run(connect, &screen).await,
        Command::Cancel(cancel) => cancel.run(connect, &screen).await,
        Command::Priority(priority) => priority.run(connect, &screen).await,
        Command::List(list) => list.run(connect, &screen).await,
        Command::Whoami => list::whoami(connect, &screen).await,
        Command::Server => list::server(connect, &screen).await,
        Command::Ban(ban) => ban.run(connect, &screen).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, line }) => {
            if let Some(line) = line {
                let _ = writeln!(std::io::stderr(), "fts-client: {}", line.replace('\n', " "));
            }
            ExitCode::from(code)
        }
    }
}
