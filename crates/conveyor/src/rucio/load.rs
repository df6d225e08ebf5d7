//! Reads the topology.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use token_core::UnixSeconds;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio};
use crate::choose::Strategy;
use crate::topology::{Options, Protocol, Rse, RseId, Topology, message_services};

const WHAT: &str = "reading RSEs and distances";

impl Rucio {
    /// All RSEs of the VO that are not deleted, with attributes, protocols and distances, and Rucio's own configuration:
    /// six statements, however many requests wait, and six more where sources are ranked by what failed in the hour before `now`.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn topology(&self, now: UnixSeconds) -> Result<Topology, DatabaseError> {
        let mut attributes: HashMap<RseId, HashMap<String, String>> = HashMap::new();
        let rows = Statement::new("SELECT rse_id, key, value FROM rse_attr_map WHERE value IS NOT NULL");
        for row in self.database.fetch(rows).await.during(WHAT)? {
            let id = RseId(row.id(0).during(WHAT)?);
            attributes.entry(id).or_default().insert(row.get(1).during(WHAT)?, row.get(2).during(WHAT)?);
        }
        let mut protocols = self.protocols().await?;
        let rows = Statement::new(
            "SELECT id, rse, coalesce(rse_type = 'TAPE', FALSE), coalesce(deterministic, FALSE), coalesce(staging_area, FALSE), \
             coalesce(availability_read, FALSE), coalesce(volatile, FALSE), coalesce(availability_write, FALSE), \
             coalesce(availability_delete, FALSE), vo, city, region_code, country_name, continent, time_zone, \"ISP\", \
             \"ASN\", qos_class FROM rses WHERE NOT deleted AND vo = $1",
        );
        let mut rses = Vec::new();
        for row in self.database.fetch(rows.with(self.vo.as_str())).await.during(WHAT)? {
            let id = RseId(row.id(0).during(WHAT)?);
            rses.push(Rse {
                name: row.get(1).during(WHAT)?,
                tape: row.get(2).during(WHAT)?,
                deterministic: row.get(3).during(WHAT)?,
                staging_area: row.get(4).during(WHAT)?,
                availability_read: row.get(5).during(WHAT)?,
                attributes: attributes.remove(&id).unwrap_or_default(),
                protocols: protocols.remove(&id).unwrap_or_default(),
                columns: columns(&row).during(WHAT)?,
                id,
            });
        }
        let topology = Topology::new(rses, self.distances().await?);
        let topology = topology.configured(self.all_options().await?, self.admins().await?);
        match topology.strategies() {
            Ok(strategies) if strategies.contains(&Strategy::FailureRate) => {
                Ok(topology.with_failures(self.failure_rates(now).await?))
            }
            _ => Ok(topology),
        }
    }

    /// What stands in the database, and before it what stands in `rucio.cfg`.
    async fn all_options(&self) -> Result<Options, DatabaseError> {
        let rows = Statement::new("SELECT section, opt, value FROM configs WHERE value IS NOT NULL");
        let rows = self.database.fetch(rows).await.during("reading Rucio's configuration")?;
        let option = |row: &Row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?));
        let mut options: Options =
            rows.iter().map(option).collect::<Result<_, sqlx::Error>>().during(WHAT)?;
        options.extend(self.over.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(options)
    }

    /// The services that Rucio's messages are for.
    pub(super) async fn message_services(&self) -> Result<Vec<String>, DatabaseError> {
        let key = ("hermes".to_owned(), "services_list".to_owned());
        if let Some(list) = self.over.get(&key) {
            return Ok(message_services(Some(list)));
        }
        let row =
            Statement::new("SELECT value FROM configs WHERE section = 'hermes' AND opt = 'services_list'");
        let rows = self.database.fetch(row).await.during("reading Rucio's configuration")?;
        let list: Option<String> = rows.first().map(|row| row.get(0)).transpose().during(WHAT)?.flatten();
        Ok(message_services(list.as_deref()))
    }

    /// The accounts for which restricted RSEs are open.
    async fn admins(&self) -> Result<HashSet<String>, DatabaseError> {
        let rows = Statement::new(
            "SELECT a.account FROM accounts a JOIN account_attr_map m ON m.account = a.account \
             WHERE m.key = 'admin' AND m.value = 'true' AND a.status = 'ACTIVE'",
        );
        let rows = self.database.fetch(rows).await.during("reading accounts")?;
        rows.iter().map(|row| row.get(0)).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    async fn protocols(&self) -> Result<HashMap<RseId, Vec<Protocol>>, DatabaseError> {
        let rows = Statement::new(
            "SELECT rse_id, scheme, hostname, port, prefix, impl, third_party_copy_read, third_party_copy_write, \
             extended_attributes FROM rse_protocols",
        );
        let mut protocols: HashMap<RseId, Vec<Protocol>> = HashMap::new();
        for row in self.database.fetch(rows).await.during(WHAT)? {
            let extended: Option<String> = row.get(8).during(WHAT)?;
            let extended =
                extended.and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
            let protocol = Protocol {
                scheme: row.get(1).during(WHAT)?,
                hostname: row.get(2).during(WHAT)?,
                port: row.integer(3).during(WHAT)?,
                prefix: row.get::<Option<String>>(4).during(WHAT)?.unwrap_or_default(),
                implementation: row.get(5).during(WHAT)?,
                tpc_read: row.optional_integer(6).during(WHAT)?,
                tpc_write: row.optional_integer(7).during(WHAT)?,
                web_service_path: extended["web_service_path"].as_str().map(str::to_owned),
            };
            protocols.entry(RseId(row.id(0).during(WHAT)?)).or_default().push(protocol);
        }
        Ok(protocols)
    }

    async fn distances(&self) -> Result<HashMap<(RseId, RseId), i64>, DatabaseError> {
        let rows = Statement::new(
            "SELECT src_rse_id, dest_rse_id, distance FROM distances WHERE distance IS NOT NULL",
        );
        let rows = self.database.fetch(rows).await.during(WHAT)?;
        rows.iter()
            .map(|row| Ok(((RseId(row.id(0)?), RseId(row.id(1)?)), row.integer(2)?)))
            .collect::<Result<_, sqlx::Error>>()
            .during(WHAT)
    }
}

/// What only RSE expressions ask for.
fn columns(row: &Row) -> Result<HashMap<String, String>, sqlx::Error> {
    let mut columns = HashMap::new();
    for (at, name) in (6..).zip(["volatile", "availability_write", "availability_delete"]) {
        columns.insert(name.to_owned(), row.get::<bool>(at)?.to_string());
    }
    let texts =
        ["vo", "city", "region_code", "country_name", "continent", "time_zone", "ISP", "ASN", "qos_class"];
    for (at, name) in (9..).zip(texts) {
        if let Some(text) = row.get::<Option<String>>(at)? {
            columns.insert(name.to_owned(), text);
        }
    }
    Ok(columns)
}
