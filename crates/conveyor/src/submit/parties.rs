//! The FTS instances that requests go to, each with its own token, made when the first request needs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fts_client::{FtsClient, FtsError, FtsSettings as ClientSettings, Identity};
use token_core::{ClientCredentials, Clock, TokenKeeper};
use tokio::sync::Mutex;
use tracing::info;
use url::Url;

use super::tokens::StorageTokens;
use crate::access::Access;
use crate::tokens::TokenRules;

/// One FTS and who we are to it.
pub struct Party {
    /// The FTS, as an RSE's `fts` attribute names it.
    pub name: String,
    /// Its client.
    pub client: FtsClient,
    /// Where the token comes from that it sends.
    pub bearer: Arc<ClientCredentials>,
    /// Who gives the tokens for storages that go with its jobs.
    pub tokens: StorageTokens,
    /// What job ids follow from.
    pub identity: Identity,
    /// Set when a post could not be sent, or a job got another id than we foresaw: what is still waiting to be posted is given
    /// back without trying, and FTS is asked again who we are.
    pub doubtful: AtomicBool,
}

/// Makes parties and keeps them.
pub struct Parties {
    access: Access,
    keeper: Arc<TokenKeeper>,
    rules: Arc<TokenRules>,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<String, Arc<Party>>>,
}

impl Parties {
    /// No party yet.
    pub fn new(
        access: Access,
        keeper: Arc<TokenKeeper>,
        rules: Arc<TokenRules>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { access, keeper, rules, clock, known: Mutex::default() }
    }

    /// The FTS that an RSE's `fts` attribute names.
    ///
    /// # Errors
    /// When there is no token for it, or it does not know us.
    pub async fn party(&self, fts: &str) -> Result<Arc<Party>, FtsError> {
        let mut known = self.known.lock().await;
        if let Some(party) = known.get(fts) {
            if !party.doubtful.load(Ordering::Relaxed) {
                return Ok(Arc::clone(party));
            }
            // Nothing is claimed again for an FTS that was away before it answers, and says that we still are who we were.
            if party.client.whoami().await?.identity().as_ref() == Some(&party.identity) {
                party.doubtful.store(false, Ordering::Relaxed);
                return Ok(Arc::clone(party));
            }
            known.remove(fts);
        }
        let unusable =
            |reason: String| FtsError::BadAnswer { fts: fts.to_owned(), call: "setting up", reason };
        let url = Url::parse(fts).map_err(|_| unusable("the `fts` attribute is not a URL".into()))?;
        if url.scheme() != "https" || !url.has_host() {
            return Err(unusable("the `fts` attribute is not an https URL".into()));
        }
        let Access { http, min_life, .. } = &self.access;
        let grantor = self.access.grantor(&url);
        let (oauth, request) = (Arc::clone(&grantor.oauth), grantor.request(&url));
        let tokens = StorageTokens::new(
            Arc::clone(&oauth),
            Arc::clone(&self.keeper),
            Arc::clone(&self.rules),
            Arc::clone(&self.clock),
        );
        let bearer = Arc::new(ClientCredentials::new(oauth, Arc::clone(&self.keeper), request, *min_life));
        let settings = ClientSettings { http: http.clone(), ..ClientSettings::new(url) };
        let client = FtsClient::new(&settings, Arc::clone(&bearer) as Arc<_>)
            .map_err(|error| unusable(error.to_string()))?;
        let who = client.whoami().await?;
        let identity = who.identity().ok_or_else(|| FtsError::Anonymous { fts: fts.to_owned() })?;
        info!(fts, user = who.user_dn, vo = identity.vo, "known to FTS");
        let name = fts.to_owned();
        let party =
            Arc::new(Party { name, client, bearer, tokens, identity, doubtful: AtomicBool::new(false) });
        known.insert(fts.to_owned(), Arc::clone(&party));
        Ok(party)
    }
}
