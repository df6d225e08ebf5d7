//! `wlcg-token`: looks at WLCG tokens, and gets them.
//!
//! Data goes to standard output, everything else to standard error. A token is printed by `get`, `exchange`, `refresh` and
//! `device --print` only, which exist to print it; it is never taken as an argument, where other users could see it. Exit codes: 0 yes or done; 1 no (not valid, not
//! allowed) or not to be had now; 2 wrong usage, or a token or file that can't be read.

mod client;
mod device;
mod get;
mod look;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use token_core::{AccessToken, Found, Places};

/// Looks at WLCG tokens, and gets them.
#[derive(Parser)]
#[command(name = "wlcg-token", version)]
pub(crate) struct Arguments {
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say where the token that tools would use is found (WLCG Bearer Token Discovery), without printing it.
    Discover,
    /// Say in words what a token says: who, for whom, what it allows, how long. Nothing is checked.
    Show(look::Show),
    /// Check a token as a resource would: signature, issuer, audience, times, profile.
    Verify(look::Verify),
    /// Say whether a token would allow an operation on a path, and if not, which rule says no.
    Can(look::Can),
    /// Get a token by client credentials and print it.
    Get(get::Get),
    /// Exchange a token for one of less power (RFC 8693) and print it.
    Exchange(get::Exchange),
    /// Get a token by a refresh token, which is replaced in its file if the issuer rotates it, and print it.
    Refresh(get::Refresh),
    /// Have a person approve a token in a browser (RFC 8628), and put it where tools find it.
    Device(device::Device),
}

/// Which token: the one that is discovered, or one from a file.
#[derive(Args)]
struct Which {
    /// Take the token from this file, `-` for standard input, instead of discovering it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// How a command ends that has no answer to print.
enum Failure {
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Refused(String),
}

impl Failure {
    fn usage(what: impl std::fmt::Display) -> Self {
        Self::Usage(what.to_string())
    }

    fn refused(what: impl std::fmt::Display) -> Self {
        Self::Refused(what.to_string())
    }
}

impl Which {
    fn token(&self) -> Result<Found, Failure> {
        match self.token_file.as_deref() {
            None => Places::from_environment().discover().map_err(Failure::usage),
            Some(path) if path.as_os_str() == "-" => {
                let mut text = String::new();
                std::io::stdin().take(64 * 1024).read_to_string(&mut text).map_err(Failure::usage)?;
                let token = AccessToken::new(text.trim()).map_err(Failure::usage)?;
                Ok(Found { token, place: "standard input".into() })
            }
            Some(path) => {
                let named = Places { token: None, file: Some(path.into()), ..Places::from_environment() };
                let found = named.discover().map_err(Failure::usage)?;
                match found.place == path.display().to_string() {
                    true => Ok(found),
                    false => Err(Failure::Usage(format!("{} is empty", path.display()))),
                }
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Discover => look::discover(arguments.json),
        Command::Show(show) => look::show(&show, arguments.json),
        Command::Verify(verify) => look::verify(&verify, arguments.json).await,
        Command::Can(can) => look::can(&can, arguments.json),
        Command::Get(get) => get::get(&get, arguments.json).await,
        Command::Exchange(exchange) => get::exchange(&exchange, arguments.json).await,
        Command::Refresh(refresh) => get::refresh(&refresh, arguments.json).await,
        Command::Device(device) => device::device(&device, arguments.json).await,
    };
    let (line, code) = match done {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => return ExitCode::SUCCESS,
            // The reader has seen enough.
            Err(_) => return ExitCode::FAILURE,
        },
        Err(Failure::Usage(line)) => (line, ExitCode::from(2)),
        Err(Failure::Refused(line)) => (line, ExitCode::FAILURE),
    };
    let _ = writeln!(std::io::stderr(), "wlcg-token: {}", line.replace('\n', " "));
    code
}
