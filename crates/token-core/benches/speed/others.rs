//! Verifiers in another process: PyPI scitokens and libscitokens, by a Python that has them (`SCITOKENS_PYTHON`, else `python3`).

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::issuer::{AUDIENCE, ISSUER, Signed, jwks};

/// A Python that verifies on demand; it ends with this value.
pub(crate) struct Others {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// What it found.
    pub(crate) found: Found,
    _cache: tempfile::TempDir,
}

/// Which library is there.
#[derive(Deserialize)]
pub(crate) struct Found {
    pub(crate) python: Library,
    pub(crate) library: Library,
}

/// A library's name, or why there is none.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Library {
    There { name: String },
    Not { missing: String },
}

impl Others {
    pub(crate) fn start(signed: &[Signed]) -> Result<Self, Box<dyn Error>> {
        let python = std::env::var_os("SCITOKENS_PYTHON").unwrap_or_else(|| "python3".into());
        let cache = tempfile::tempdir()?;
        // The tokens go by standard input: arguments can be read by others.
        let mut child = Command::new(&python)
            .args(["-c", include_str!("others.py")])
            .env("XDG_CACHE_HOME", cache.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", python.display()))?;
        let (to, from) = child.stdin.take().zip(child.stdout.take()).ok_or("no pipes")?;
        let found = Found { python: Library::none(), library: Library::none() };
        let mut others = Self { child, to, from: BufReader::new(from), found, _cache: cache };
        let tokens: Map<String, Value> =
            signed.iter().map(|signed| (signed.name.to_owned(), json!(signed.token))).collect();
        let setup = json!({"issuer": ISSUER, "audience": AUDIENCE, "jwks": jwks(signed), "tokens": tokens});
        others.found = serde_json::from_str(&others.ask(&setup.to_string())?)?;
        Ok(others)
    }

    /// The seconds that so many verifications take, as measured there.
    pub(crate) fn block(
        &mut self,
        library: &str,
        algorithm: &str,
        count: u32,
    ) -> Result<f64, Box<dyn Error>> {
        Ok(self.ask(&format!("{library} {algorithm} {count}"))?.trim().parse()?)
    }

    fn ask(&mut self, line: &str) -> Result<String, Box<dyn Error>> {
        writeln!(self.to, "{line}")?;
        let mut answer = String::new();
        match self.from.read_line(&mut answer)? {
            0 => Err("the Python that verifies for comparison ended; what it said stands above".into()),
            _ => Ok(answer),
        }
    }
}

impl Library {
    fn none() -> Self {
        Self::Not { missing: String::new() }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
