//! Configuration files: TOML, overridden by the environment, unknown keys refused.

mod annotated;
mod beneath;
mod command;
mod effective;
mod kinds;
mod nearest;
mod schema;

use std::path::{Path, PathBuf};

use config::builder::DefaultState;
use config::{Config, ConfigBuilder, ConfigError, Environment, File, FileFormat, Value, ValueKind};

use serde::de::DeserializeOwned;

pub use beneath::{Answer, Beneath, own, read_from};
pub use command::{About, Command};
pub use effective::masked;
use schema::Shape;
pub use schema::{Configuration, Flattened};

use crate::Failure;

/// A configuration that was read.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// What it says.
    pub settings: T,
    /// What was set, and where.
    values: Value,
    /// Whose files hold beneath ours.
    pub beneath: Beneath,
}

impl<T> Loaded<T> {
    /// Leaves out of what is shown a value that does not count, since something else was set in its place.
    pub fn outdo(&mut self, section: &str, key: &str) {
        if let ValueKind::Table(sections) = &mut self.values.kind
            && let Some(ValueKind::Table(keys)) = sections.get_mut(section).map(|section| &mut section.kind)
        {
            keys.remove(key);
        }
    }
}

/// Reads `path` and then the environment: with prefix `CONVEYOR`, `CONVEYOR__SUBMIT__BATCH=500` sets `submit.batch`, and
/// `CONVEYOR__SUBMIT__SCHEMES=davs,root` a list.
///
/// # Errors
/// One line that names the file and the key, and never shows a value: a value may be a secret that was put into the wrong
/// place.
pub fn load<T: DeserializeOwned>(path: &Path, prefix: &str) -> Result<T, Failure> {
    read_as(&[], Some(path), prefix, &Shape::with::<T>(&[])).map(|loaded| loaded.settings)
}

/// As [`load`], with what was set where, and with sections of two types seen through.
///
/// # Errors
/// As [`load`].
pub fn read<T: Configuration>(path: &Path, prefix: &str) -> Result<Loaded<T>, Failure> {
    read_over(&[], Some(path), prefix)
}

/// As [`read`], over numbers that are known from elsewhere: keys such as `worker.batch`, which hold where neither the file nor the
/// environment sets them. There may be no file.
///
/// # Errors
/// As [`load`].
pub fn read_over<T: Configuration>(
    known: &[(&str, u64)],
    path: Option<&Path>,
    prefix: &str,
) -> Result<Loaded<T>, Failure> {
    read_as(known, path, prefix, &Shape::of::<T>())
}

/// As [`read_over`], with what is known as a tree of keys.
///
/// # Errors
/// As [`load`].
pub fn read_over_tree<T: Configuration>(
    known: &serde_json::Value,
    path: Option<&Path>,
    prefix: &str,
) -> Result<Loaded<T>, Failure> {
    let tree = Config::try_from(known).map_err(|error| Failure::Configuration(explain(&error)))?;
    read_with(Config::builder().add_source(tree), path, prefix, &Shape::of::<T>())
}

fn read_as<T: DeserializeOwned>(
    known: &[(&str, u64)],
    path: Option<&Path>,
    prefix: &str,
    shape: &Shape,
) -> Result<Loaded<T>, Failure> {
    let mut builder = Config::builder();
    for (key, value) in known {
        builder = builder
            .set_default(*key, *value)
            .map_err(|error| Failure::Configuration(format!("configuration: {}", explain(&error))))?;
    }
    read_with(builder, path, prefix, shape)
}

fn read_with<T: DeserializeOwned>(
    mut builder: ConfigBuilder<DefaultState>,
    path: Option<&Path>,
    prefix: &str,
    shape: &Shape,
) -> Result<Loaded<T>, Failure> {
    let shown = path
        .map_or_else(|| "configuration".to_owned(), |path| format!("configuration file {}", path.display()));
    let at_fault = |line: String| Failure::Configuration(format!("{shown}: {line}"));
    if let Some(path) = path {
        let cannot =
            |why: &dyn std::fmt::Display| Failure::Configuration(format!("cannot read the {shown}: {why}"));
        let opened =
            std::fs::File::open(path).and_then(|file| file.metadata()).map_err(|error| cannot(&error))?;
        if opened.is_dir() {
            return Err(cannot(&"it is a folder (a mount of a file that is not there makes one)"));
        }
        builder = builder.add_source(File::from(path).format(FileFormat::Toml));
    }
    // A variable that is set to nothing, as `${UNSET:-}` does, sets nothing.
    let environment = Environment::with_prefix(prefix)
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .ignore_empty(true);
    // With no list among the keys, every text would be one.
    let environment = match shape.lists().as_slice() {
        [] => environment,
        lists => lists
            .iter()
            .fold(environment.list_separator(","), |environment, list| environment.with_list_parse_key(list)),
    };
    let mut values =
        builder.add_source(environment).build().map_err(|error| at_fault(explain(&error)))?.cache;
    if let Some(line) = effective::unknown(shape, &values, prefix) {
        return Err(at_fault(line));
    }
    let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credentials = Credentials { given, beside: path.and_then(Path::parent) };
    credentials.place(&mut values).map_err(at_fault)?;
    let by_variable = |variable: Option<String>, line: String| match variable {
        Some(variable) => Failure::Configuration(format!("environment variable {variable}: {line}")),
        None => at_fault(line),
    };
    kinds::settle(shape, &mut values, prefix).map_err(|wrong| by_variable(wrong.variable, wrong.line))?;
    let settings = T::deserialize(values.clone()).map_err(|error| {
        let variable = place_of(&error).and_then(|place| kinds::set_by(&values, place, prefix));
        by_variable(variable, explain(&error))
    })?;
    Ok(Loaded { settings, values, beneath: Beneath::default() })
}

/// Where values that begin with `$CREDENTIALS_DIRECTORY/` are.
struct Credentials<'a> {
    /// systemd's folder of credentials, where it has made one.
    given: Option<PathBuf>,
    /// The folder of the configuration file, for commands by hand: our units load credentials from there.
    beside: Option<&'a Path>,
}

impl Credentials<'_> {
    /// Puts the folder into values that begin with its variable.
    fn place(&self, value: &mut Value) -> Result<(), String> {
        match &mut value.kind {
            ValueKind::String(text) => {
                let name = ["$CREDENTIALS_DIRECTORY/", "${CREDENTIALS_DIRECTORY}/"];
                if let Some(name) = name.iter().find_map(|variable| text.strip_prefix(variable)) {
                    *text = self.path(name)?.display().to_string();
                }
                Ok(())
            }
            ValueKind::Table(table) => table.values_mut().try_for_each(|value| self.place(value)),
            ValueKind::Array(items) => items.iter_mut().try_for_each(|value| self.place(value)),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, String> {
        if let Some(folder) = &self.given {
            return Ok(folder.join(name));
        }
        self.beside.map(|folder| folder.join(name)).filter(|path| path.exists()).ok_or_else(|| {
            format!(
                "credential `{name}`: CREDENTIALS_DIRECTORY is not set (systemd sets it where a unit has LoadCredential=), and there is \
                 no such file beside the configuration"
            )
        })
    }
}

/// Keys that are not set by default; what stands in their comments are examples.
const NO_DEFAULT: [&str; 4] = ["ca_file", "private_key_file", "key_id", "key_credential"];

/// An annotated configuration file with every commented default taken in, for the test that it means the same as the file itself:
/// then each comment is a key, and shows its default. A comment is a default when it is `# key = value` and not among `examples`;
/// some keys have none.
pub fn with_defaults_taken_in(annotated: &str, examples: &[&str]) -> String {
    let is_default = |line: &&str| {
        let Some((key, _)) = line.split_once(" = ") else { return false };
        !NO_DEFAULT.contains(&key)
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            && !examples.contains(line)
    };
    let taken_in = |line: &'_ str| -> String {
        line.strip_prefix("# ").filter(is_default).unwrap_or(line).to_owned() + "\n"
    };
    annotated.lines().map(taken_in).collect()
}

/// The key that an error is about, as the library writes it.
fn place_of(error: &ConfigError) -> Option<&str> {
    match error {
        ConfigError::At { key, .. } | ConfigError::Type { key, .. } => key.as_deref(),
        _ => None,
    }
}

/// The library leaves out a dot: `vo[0]send`.
fn dotted(key: &str) -> String {
    let mut dotted = String::new();
    for sign in key.chars() {
        if dotted.ends_with(']') && sign != '.' && sign != '[' {
            dotted.push('.');
        }
        dotted.push(sign);
    }
    dotted
}

/// The library's own texts show the offending line or value; ours show where it is.
fn explain(error: &ConfigError) -> String {
    match error {
        ConfigError::FileParse { cause, .. } => {
            let text = cause.to_string();
            let place = text.lines().next().unwrap_or_default();
            let place = place.strip_prefix("TOML parse error at ").unwrap_or("an unknown place");
            format!("not valid TOML at {place}")
        }
        ConfigError::Type { key, expected, .. } => {
            format!(
                "`{}` has the wrong type: {expected} is expected",
                dotted(key.as_deref().unwrap_or("a key"))
            )
        }
        ConfigError::NotFound(key) => format!("`{}` is missing", dotted(key)),
        ConfigError::At { error, key, .. } => match key {
            Some(key) => format!("in `{}`: {}", dotted(key), explain(error)),
            None => explain(error),
        },
        // serde's own words: they name keys, and for a wrong value what stands there.
        ConfigError::Message(text) => {
            let line = text.lines().next().unwrap_or_default();
            if let Some((variable, _)) = line.split_once(" contains non-Unicode data") {
                return format!("{variable} is not UTF-8");
            }
            if line.contains(" does not have variant constructor ") {
                return "a value is none of the words that it can be".to_owned();
            }
            match (line.starts_with("invalid "), line.rsplit_once(", expected ")) {
                (true, Some((_, "a sequence"))) => "a value is wrong: expected a list, [\"...\"]".to_owned(),
                (true, Some((_, expected))) => format!("a value is wrong: expected {expected}"),
                _ => line.to_owned(),
            }
        }
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[expect(dead_code, reason = "only its reading counts")]
        part: Part,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        #[expect(dead_code, reason = "only its reading counts")]
        number: u32,
    }

    fn refusal(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        load::<Example>(&path, "NO_SUCH_PREFIX").unwrap_err().to_string()
    }

    #[test]
    fn every_mistake_is_one_line_that_names_its_place_and_shows_no_value() {
        for (text, named) in [
            ("part = { number = 1", "line 1"),
            ("[part]\nnumber = \"canary\"", "number"),
            ("[part]\nnumber = 1\nsecret = \"canary\"", "secret"),
            ("[part]\n", "number"),
            ("", "part"),
            ("client_secret = \"canary", "line 1"),
            ("[part]\nnumbre = \"canary\"", "`part.numbre`: did you mean `part.number`?"),
            ("number = 1", "`number`: did you mean `part.number`?"),
            ("[part]\nother = \"canary\"", "known here: number"),
            ("[part]\nnumber = \"$CREDENTIALS_DIRECTORY/n\"", "CREDENTIALS_DIRECTORY is not set"),
            ("[part]\nnumber = \"$CREDENTIALS_DIRECTORY/c.toml\"", "number"),
        ] {
            let line = refusal(text);
            assert!(line.contains(named) && line.contains("c.toml"), "{text:?}: {line}");
            assert!(!line.contains("canary") && !line.contains('\n'), "{text:?}: {line}");
        }
        let missing = load::<Example>(Path::new("/no/such.toml"), "X").unwrap_err();
        assert!(matches!(&missing, Failure::Configuration(line) if line.contains("/no/such.toml")));
    }
}
