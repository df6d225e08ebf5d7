//! Configuration of others (Rucio's, FTS's) that holds beneath ours, as far as `config show` tells of it.

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
