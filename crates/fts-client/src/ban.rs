//! Bans: storages and users that FTS takes no jobs for. Every token user may ban (observed); a ban holds for the caller's VO.

use serde::{Deserialize, Serialize};

use crate::status::Timestamp;

/// What happens to the files of a banned storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageBan {
    /// Queued files are cancelled, new jobs refused.
    Cancel,
    /// Queued files wait; new jobs are refused, or with `allow_submit` taken and held.
    Wait {
        /// Whether new jobs are taken.
        allow_submit: bool,
    },
}

/// The body of `POST /ban/se`.
#[derive(Serialize)]
pub(crate) struct BanStorage<'a> {
    storage: &'a str,
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_submit: bool,
}

impl<'a> BanStorage<'a> {
    pub(crate) fn new(storage: &'a str, ban: StorageBan, message: &'a str) -> Self {
        let (status, allow_submit) = match ban {
            StorageBan::Cancel => ("cancel", false),
            StorageBan::Wait { allow_submit } => ("wait", allow_submit),
        };
        Self { storage, status, message, allow_submit }
    }
}

/// The body of `POST /ban/dn`.
#[derive(Serialize)]
pub(crate) struct BanUser<'a> {
    pub(crate) user_dn: &'a str,
    pub(crate) message: &'a str,
}

/// A banned storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BannedStorage {
    /// Scheme and host, without a port.
    pub se: String,
    /// `CANCEL`, `WAIT`, or `WAIT_AS`: new jobs are taken and held.
    #[serde(default)]
    pub status: Option<String>,
    /// For which VO.
    #[serde(default)]
    pub vo: Option<String>,
    /// Why.
    #[serde(default)]
    pub message: Option<String>,
    /// Since when.
    #[serde(default)]
    pub addition_time: Option<Timestamp>,
    /// By whom.
    #[serde(default)]
    pub admin_dn: Option<String>,
}

/// A banned user. Not recorded: the members are those of FTS's table `t_bad_dns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BannedUser {
    /// A token's subject or a certificate's DN.
    pub dn: String,
    /// Why.
    #[serde(default)]
    pub message: Option<String>,
    /// Since when.
    #[serde(default)]
    pub addition_time: Option<Timestamp>,
    /// By whom.
    #[serde(default)]
    pub admin_dn: Option<String>,
}
