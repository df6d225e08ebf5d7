//! Configuration of others (Rucio's, FTS's) that holds beneath ours, as far as `config show` tells of it.

use std::path::Path;

/// A file of somebody else, and what of it is not a value under a key of ours.
#[derive(Clone, Debug, Default)]
pub struct Beneath {
    /// The file, which every value comes from that is neither in the environment nor in our own file.
    pub file: String,
    /// Keys that are answered by another place than the file itself.
    pub answers: Vec<Answer>,
    /// What a person should know, a line each.
    pub notes: Vec<String>,
}

/// The configuration file of ours, if there is to be one: over a file of somebody else's, the usual one need not be there. One that was
/// named must be.
pub fn own<'a>(path: &'a Path, usual: &str, beneath: Option<&Path>) -> Option<&'a Path> {
    let may_lack = beneath.is_some() && path == Path::new(usual);
    Some(path).filter(|path| !may_lack || path.exists())
}

/// What a configuration is read from, for people: what counts more stands first.
pub fn read_from(own: Option<&Path>, beneath: Option<&Path>) -> String {
    let files = own.into_iter().chain(beneath);
    files.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" over ")
}

/// What stands for a key of ours when neither our file nor the environment sets it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The key, `issuer.client_secret_file`.
    pub key: &'static str,
    /// What is shown as its value; of a secret or a password, where it is.
    pub shown: String,
    /// Where it stands in their files.
    pub place: String,
}
