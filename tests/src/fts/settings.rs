//! What an FTS operator can set in the REST server's configuration, as far as it was seen to matter.

use std::collections::BTreeMap;

/// Settings of the REST server; [`Default`] has its own defaults.
#[derive(Clone, Debug)]
pub struct RestSettings {
    /// `OAuth2`: whether bearer tokens are taken at all. FTS's own default is no; here it is yes.
    pub oauth2: bool,
    /// `ValidateAccessTokenOffline`: by signature and claims; else the issuer is asked about every token (RFC 7662).
    pub offline: bool,
    /// `NonManagedTokens`: tokens without `offline_access` do not hold a file back in TOKEN_PREP.
    pub non_managed_tokens: bool,
    /// What becomes of `params.unmanaged_tokens`: none, it is ignored, as 3.13.4 does; else, as in 3.14, whether
    /// `AllowNonManagedTokens` is on (read in its sources, not observed).
    pub unmanaged_tokens: Option<bool>,
    /// `AuthorizedVO`; `*` is all.
    pub authorized_vos: Vec<String>,
    /// `CheckDuplicates`: VOs that may not write one destination twice at a time. Compared as a piece of text (observed).
    pub check_duplicates: String,
    /// Whether `uuid5` takes bytes, as from Python 3.12 on. Before, `CheckDuplicates` breaks every submission of its VOs
    /// (observed).
    pub uuid5_takes_bytes: bool,
    /// `<name>_OauthScopeFts`: the scope that tokens of an issuer need. By issuer, with a slash at its end.
    pub required_scopes: BTreeMap<String, String>,
    /// Where the metadata of an issuer is, if not below its name. A test can so have an issuer of any name.
    pub discovery: BTreeMap<String, String>,
}

impl Default for RestSettings {
    fn default() -> Self {
        Self {
            oauth2: true,
            offline: true,
            non_managed_tokens: false,
            unmanaged_tokens: None,
            authorized_vos: vec!["*".into()],
            check_duplicates: String::new(),
            uuid5_takes_bytes: false,
            required_scopes: BTreeMap::new(),
            discovery: BTreeMap::new(),
        }
    }
}

impl RestSettings {
    /// Whether one of these VOs may use this server.
    pub(super) fn authorizes(&self, vos: &[String]) -> bool {
        self.authorized_vos.iter().any(|vo| vo == "*" || vos.contains(vo))
    }

    /// Whether destinations of this VO get an id that can be there only once.
    pub(super) fn checks_duplicates(&self, vo: &str) -> bool {
        !self.check_duplicates.is_empty()
            && (self.check_duplicates.contains(vo) || self.check_duplicates.contains('*'))
    }

    /// The scope that tokens of this issuer need; its name with or without the slash.
    pub(super) fn required_scope(&self, issuer: &str) -> Option<&str> {
        let with_slash = format!("{}/", issuer.trim_end_matches('/'));
        self.required_scopes.get(&with_slash).map(String::as_str)
    }
}
