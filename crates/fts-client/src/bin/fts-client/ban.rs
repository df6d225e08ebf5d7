//! `ban`.

use clap::{Args, Subcommand};
use fts_client::StorageBan;
use serde_json::json;

use super::Failure;
use super::connect::Connect;
use super::show::{Screen, safe};

/// What to do with bans.
#[derive(Subcommand)]
pub(super) enum Ban {
    /// List banned storages, or users.
    List {
        /// Users instead of storages.
        #[arg(long)]
        users: bool,
    },
    /// Ban a storage or a user.
    Add {
        #[command(flatten)]
        whom: Whom,
        /// Let queued files wait instead of cancelling them.
        #[arg(long, conflicts_with = "user")]
        wait: bool,
        /// Take new jobs, and hold them.
        #[arg(long, requires = "wait")]
        allow_submit: bool,
        /// Why.
        #[arg(long, default_value = "")]
        message: String,
    },
    /// Lift a ban.
    Remove(Whom),
}

/// A storage or a user.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whom {
    /// A storage, as davs://a.example.org: scheme and host, without port.
    #[arg(value_name = "STORAGE")]
    storage: Option<String>,
    /// A user: a token's subject or a certificate's DN.
    #[arg(long, value_name = "DN")]
    user: Option<String>,
}

impl Ban {
    pub(super) async fn run(&self, connect: &Connect, screen: &Screen) -> Result<(), Failure> {
        let client = connect.client()?;
        let touched = match self {
            Self::List { users } => return list(&client, *users, screen).await,
            Self::Remove(Whom { storage: Some(storage), .. }) => {
                return Ok(client.unban_storage(storage).await?);
            }
            Self::Remove(Whom { user, .. }) => {
                return Ok(client.unban_user(user.as_deref().unwrap_or_default()).await?);
            }
            Self::Add { whom: Whom { storage: Some(storage), .. }, wait, allow_submit, message } => {
                let ban = match wait {
                    true => StorageBan::Wait { allow_submit: *allow_submit },
                    false => StorageBan::Cancel,
                };
                client.ban_storage(storage, ban, message).await?
            }
            Self::Add { whom: Whom { user, .. }, message, .. } => {
                client.ban_user(user.as_deref().unwrap_or_default(), message).await?
            }
        };
        match screen.json {
            true => screen.print_json(&json!({ "touched": touched })),
            false => screen.print(&touched.iter().map(|job| format!("touched {job}\n")).collect::<String>()),
        }
    }
}

async fn list(client: &fts_client::FtsClient, users: bool, screen: &Screen) -> Result<(), Failure> {
    let mut text = String::new();
    if users {
        let users = client.banned_users().await.map_err(Failure::reading)?;
        if screen.json {
            return screen.print_json(&users);
        }
        for user in users {
            text += &safe(&format!("{}  {}", user.dn, user.message.unwrap_or_default()));
        }
    } else {
        let storages = client.banned_storages().await.map_err(Failure::reading)?;
        if screen.json {
            return screen.print_json(&storages);
        }
        for ban in storages {
            let [status, vo, message] = [ban.status, ban.vo, ban.message].map(Option::unwrap_or_default);
            text += &safe(&format!("{:<40}  {status:<8}  {vo:<12}  {message}", ban.se));
        }
    }
    screen.print(&text)
}
