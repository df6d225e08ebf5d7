//! The tokens that files carry.

use std::collections::HashMap;

use token_core::AccessToken;

use super::{Carried, Side};
use crate::choose::Plan;
use crate::topology::RseId;

/// The tokens of the storages that some plans go by, or why there is none.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    carried: Carried,
    got: HashMap<(RseId, Side), Result<AccessToken, String>>,
}

/// What one file carries: one token for each source, and one for the destination; none at all when files carry none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileTokens {
    /// In the order of the sources.
    pub sources: Vec<AccessToken>,
    /// One, or none.
    pub destination: Vec<AccessToken>,
}

impl Tokens {
    /// What was got for each RSE and side.
    pub fn new(carried: Carried, got: HashMap<(RseId, Side), Result<AccessToken, String>>) -> Self {
        Self { carried, got }
    }

    /// What files carry.
    pub fn carried(&self) -> Carried {
        self.carried
    }

    /// What a file carries. Never a part of it: FTS would take a file without its token, and leave it waiting for ever.
    ///
    /// # Errors
    /// Why it has to wait, in words.
    pub fn of(&self, plan: &Plan) -> Result<FileTokens, &str> {
        if self.carried == Carried::None {
            return Ok(FileTokens::default());
        }
        let one = |rse: &RseId, side| match self.got.get(&(rse.clone(), side)) {
            Some(Ok(token)) => Ok(token.clone()),
            Some(Err(reason)) => Err(reason.as_str()),
            None => Err("no token was asked for"),
        };
        let sources = plan.sources.iter().map(|source| one(&source.rse, Side::Source));
        Ok(FileTokens {
            sources: sources.collect::<Result<_, _>>()?,
            destination: vec![one(&plan.request.destination, Side::Destination)?],
        })
    }
}
