//! Writes the manual pages (`NAME/man/*.1`) and the shell completions (`NAME/completions/`) of all four commands below a folder, from
//! the commands' own definitions. The programs themselves carry nothing of it.
//!
//! Usage: `cargo run -p packaging -- FOLDER`

use std::io::{Error, Result, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

#[path = "../crates/fts-client/src/bin/fts-client/main.rs"]
#[expect(dead_code, reason = "a program, of which only the definition of its command line is wanted")]
mod fts_client_program;
#[path = "../crates/token-core/src/bin/wlcg-token/main.rs"]
#[expect(dead_code, reason = "a program, of which only the definition of its command line is wanted")]
mod wlcg_token_program;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        let _ = writeln!(std::io::stderr(), "usage: pages FOLDER");
        return ExitCode::from(2);
    };
    match commands().into_iter().try_for_each(|command| write(command, &folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "pages: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn commands() -> [Command; 4] {
    [
        conveyor::Arguments::command(),
        token_exchange::Arguments::command(),
        wlcg_token_program::Arguments::command(),
        fts_client_program::Arguments::command(),
    ]
}

/// The pages of one command, and its completions, in a folder of its name.
fn write(command: Command, folder: &Path) -> Result<()> {
    let name = command.get_name().to_owned();
    let folder = folder.join(&name);
    let man = folder.join("man");
    std::fs::create_dir_all(&man)?;
    // One page for each subcommand, named as in `conveyor-explain(1)`.
    clap_mangen::generate_to(command.clone(), &man)?;
    let completions = folder.join("completions");
    std::fs::create_dir_all(&completions)?;
    for shell in SHELLS {
        let path = clap_complete::generate_to(shell, &mut command.clone(), &name, &completions)?;
        if path.metadata()?.len() == 0 {
            return Err(Error::other(format!("{} is empty", path.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_pages_and_they_name_its_options() {
        let folder = tempfile::tempdir().unwrap();
        for command in commands() {
            let name = command.get_name().to_owned();
            write(command.clone(), folder.path()).unwrap();
            let at = |file: &str| folder.path().join(&name).join(file);
            let page = std::fs::read_to_string(at(&format!("man/{name}.1"))).unwrap();
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                // Roff writes a hyphen so.
                let written = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&written), "{name}(1) does not speak of --{option}");
            }
            for inner in command.get_subcommands() {
                let page = at(&format!("man/{name}-{}.1", inner.get_name()));
                assert!(page.exists(), "{}", page.display());
            }
            for file in [format!("{name}.bash"), format!("_{name}"), format!("{name}.fish")] {
                let text = std::fs::read_to_string(at(&format!("completions/{file}"))).unwrap();
                assert!(text.contains(&name), "{file}");
            }
        }
    }
}
