//! `list`, `whoami` and `server`.

use clap::Args;
use fts_client::{JobQuery, JobState};

use super::Failure;
use super::connect::Connect;
use super::show::{Screen, safe};

/// Arguments of `list`.
#[derive(Args)]
pub(super) struct List {
    /// In these states, as FINISHED,FAILED.
    #[arg(long, value_name = "STATES", value_delimiter = ',')]
    state: Vec<String>,
    /// Of this VO.
    #[arg(short = 'o', long = "voname", value_name = "VO")]
    vo: Option<String>,
    /// Of this user; FTS lets you ask for yourself only.
    #[arg(short = 'u', long = "userdn", value_name = "DN")]
    user: Option<String>,
    /// From this storage, as davs://a.example.org: without port.
    #[arg(long, value_name = "STORAGE")]
    source: Option<String>,
    /// To this storage.
    #[arg(long, value_name = "STORAGE")]
    destination: Option<String>,
    /// Ended within so many minutes.
    #[arg(long, value_name = "MINUTES")]
    within: Option<u32>,
    /// At most so many, up to 500.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=500), default_value_t = 100)]
    limit: u16,
}

impl List {
    pub(super) async fn run(&self, connect: &Connect, screen: &Screen) -> Result<(), Failure> {
        let query = JobQuery {
            states: self.state.iter().map(|state| JobState::from(state.to_ascii_uppercase())).collect(),
            vo: self.vo.clone(),
            user_dn: self.user.clone(),
            source_se: self.source.clone(),
            dest_se: self.destination.clone(),
            time_window_min: self.within,
            limit: Some(self.limit),
            ..JobQuery::default()
        };
        let jobs = connect.client()?.list(&query).await.map_err(Failure::reading)?;
        match screen.json {
            true => screen.print_json(&jobs),
            false => screen.print(&screen.jobs(&jobs)),
        }
    }
}

/// `whoami`.
pub(super) async fn whoami(connect: &Connect, screen: &Screen) -> Result<(), Failure> {
    let who = connect.client()?.whoami().await.map_err(Failure::reading)?;
    if screen.json {
        return screen.print_json(&who);
    }
    let rows = [
        ("user", who.user_dn.clone()),
        ("VO", who.vos.join(" ")),
        ("by", who.method.clone()),
        ("scope", who.oauth2_scope.clone().unwrap_or_default()),
        ("delegation id", who.delegation_id.clone().unwrap_or_default()),
        ("base id", who.base_id.to_string()),
    ];
    let rows = rows.iter().filter(|(_, value)| !value.is_empty());
    screen.print(&rows.map(|(name, value)| safe(&format!("{name:<14}{value}"))).collect::<String>())
}

/// `server`.
pub(super) async fn server(connect: &Connect, screen: &Screen) -> Result<(), Failure> {
    let server = connect.anonymous()?.server().await.map_err(Failure::reading)?;
    if screen.json {
        return screen.print_json(&server);
    }
    let core = server.core.map(|core| format!("daemons       {core}\n")).unwrap_or_default();
    screen.print(&format!("REST          {}\n{core}database      {}\n", server.api, server.schema))
}
