//! `config check` and `config show`: what a daemon would run with, without running it.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;

use super::annotated::Annotated;
use super::effective::{Entry, Origin, entries, plain_entries};
use super::schema::Shape;
use super::{Configuration, Loaded};
use crate::Failure;
use crate::terminal::say;

/// Looks at the configuration, without starting anything.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Read the configuration and everything that it names (secrets, keys, certificates), as a start does; nobody is asked and nothing
    /// is changed. Exit code 0: a start can read it; 2: one line says what is wrong.
    Check,
    /// Show every key with the value that counts and where it came from: the code, a file of Rucio's or FTS's beneath ours, the
    /// file, or a variable of the environment.
    /// Secrets are named by file and are not shown; passwords in URLs are masked.
    Show {
        /// One JSON array instead of text.
        #[arg(long)]
        json: bool,
        /// The annotated file with all defaults instead: the beginning of a configuration of your own.
        #[arg(long, conflicts_with = "json")]
        defaults: bool,
        /// The reference of all keys in Markdown instead.
        #[arg(long, conflicts_with_all = ["json", "defaults"])]
        reference: bool,
    },
}

/// A daemon, as far as these commands care.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The program's name.
    pub program: &'static str,
    /// The prefix of its variables in the environment.
    pub prefix: &'static str,
    /// Its annotated configuration file.
    pub annotated: &'static str,
}

impl About {
    /// The reference of all keys, in Markdown.
    pub fn reference<T: Configuration>(&self) -> String {
        let shape = Shape::of::<T>();
        let annotated = Annotated::read(self.annotated, &shape);
        format!(
            "# Configuration of `{}`\n\nMade from the code by `{} config show --reference`. Any key outside `[[...]]` can be set by the environment: \
             `{}__SECTION__KEY`, a list of words with commas; a variable that is set to nothing sets nothing. A file of systemd's credentials may be named as `$CREDENTIALS_DIRECTORY/NAME`.\n\n{}",
            self.program,
            self.program,
            self.prefix,
            annotated.markdown(&shape)
        )
    }

    /// Keys of `T` that the annotated file does not speak of, for the test that there are none.
    pub fn undocumented<T: Configuration>(&self) -> Vec<String> {
        let shape = Shape::of::<T>();
        Annotated::read(self.annotated, &shape).missing(&shape)
    }

    /// Keys whose values are others in `new` than in `old`, by name; those that are not set are as the code has them.
    pub(crate) fn changed<T: Configuration>(&self, old: &Loaded<T>, new: &Loaded<T>) -> Vec<String> {
        let shape = Shape::of::<T>();
        let annotated = Annotated::read(self.annotated, &shape);
        let values = |loaded: &Loaded<T>| -> BTreeMap<String, Option<String>> {
            let entries = plain_entries(&shape, &loaded.values, &annotated, self.prefix);
            entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
        };
        let (old, new) = (values(old), values(new));
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
    }

    /// Runs a command. `from` names what `load` reads; `check` looks at what the settings name.
    ///
    /// # Errors
    /// When the configuration can't be read or is not right.
    pub fn run<T: Configuration>(
        &self,
        command: &Command,
        from: &str,
        load: impl FnOnce() -> Result<Loaded<T>, Failure>,
        check: impl FnOnce(&T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let text = match command {
            Command::Show { defaults: true, .. } => self.annotated.trim_end().to_owned(),
            Command::Show { reference: true, .. } => self.reference::<T>().trim_end().to_owned(),
            Command::Show { json, .. } => {
                let Loaded { values, beneath, .. } = load()?;
                let shape = Shape::of::<T>();
                let annotated = Annotated::read(self.annotated, &shape);
                let entries = entries(&shape, &values, &annotated, self.prefix, &beneath);
                note(&beneath.notes);
                match json {
                    true => serde_json::to_string(&entries).unwrap_or_default(),
                    false => table(&entries),
                }
            }
            Command::Check => {
                let Loaded { settings, beneath, .. } = load()?;
                check(&settings)?;
                note(&beneath.notes);
                format!("{from}: the configuration can be used")
            }
        };
        say(&text);
        Ok(())
    }
}

fn table(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.key.len()).max().unwrap_or(0);
    let lines = entries.iter().map(|entry| {
        let Entry { key, value, origin } = entry;
        match (value, origin) {
            (None, _) | (_, Origin::Unset) => format!("{key:width$}   # not set"),
            (Some(value), origin) => format!("{key:width$} = {value}   # {origin}"),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What is not data.
#[expect(clippy::print_stderr, reason = "no logs are kept of the command")]
fn note(notes: &[String]) {
    notes.iter().for_each(|line| eprintln!("{line}"));
}
