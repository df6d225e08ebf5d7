//! FTS's words in a refusal, and what they are about.

use serde::Deserialize;
use token_core::http::printable;

#[derive(Deserialize)]
struct ErrorBody {
    message: Option<String>,
    http_message: Option<String>,
}

/// Longest error page that is read for its words, in bytes.
const LONGEST: usize = 64 * 1024;

/// What an error answer says, and who of the server's layers said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Made safe to print.
    pub(crate) text: String,
    /// Whether it is JSON. The application answers JSON; authentication, web framework and container answer HTML.
    pub(crate) of_application: bool,
}

impl Words {
    /// From JSON, or from the HTML of the layers around the application.
    pub(crate) fn of(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST)]);
        if let Ok(body) = serde_json::from_str::<ErrorBody>(&text) {
            let text = body.message.or(body.http_message).unwrap_or_default();
            return Self { text: printable(&text), of_application: true };
        }
        let mut inside = false;
        let visible = |c: &char| {
            inside = (*c == '<') || (inside && *c != '>');
            !inside && *c != '>'
        };
        Self { text: printable(&text.chars().filter(visible).collect::<String>()), of_application: false }
    }
}

/// How refusals of FTS REST 3.13.4, and one of 3.14, begin or what they contain, and the member of the submission that they are about.
const FIELDS: [(&str, &str); 36] = [
    ("Need sid for deterministic", "params.sid"),
    ("The sid provided", "params.sid"),
    ("Both source_tokens and destination_tokens", "files[].source_tokens"),
    ("Length of source_tokens", "files[].source_tokens"),
    ("Length of destination_tokens", "files[].destination_tokens"),
    ("Token for source", "files[].source_tokens"),
    ("Token for destination", "files[].destination_tokens"),
    ("Token does not contain", "files[].source_tokens or destination_tokens"),
    ("Failed to validate access-token", "files[].source_tokens or destination_tokens"),
    ("Transfer access-token has unknown issuer", "files[].source_tokens or destination_tokens"),
    ("FTS access-token has unknown issuer", "the token of the submission"),
    ("Unmanaged tokens are not allowed", "params.unmanaged_tokens"),
    ("`t_token`", "files[].source_tokens or destination_tokens"),
    ("token_id", "files[].source_tokens or destination_tokens"),
    ("Requests to archive to tape", "params.archive_timeout"),
    ("Requests to retrieve from tape", "params.bring_online"),
    ("Incompatible overwrite flags", "params.overwrite"),
    ("'overwrite-hop'", "params.overwrite_hop"),
    ("'overwrite-when-only-on-disk'", "params.overwrite_when_only_on_disk"),
    ("Invalid priority value", "params.priority"),
    ("Can not request multiple replica job together", "params.multihop or reuse"),
    ("Multiple replica jobs", "files"),
    ("Reuse jobs must only", "files[].sources or destinations"),
    ("No valid pairs", "files"),
    ("Missing parameter: 'sources'", "files[].sources"),
    ("Missing parameter: 'destinations'", "files[].destinations"),
    ("Can not transfer local files", "files[].sources or destinations"),
    ("Missing scheme", "files[].sources or destinations"),
    ("Missing host", "files[].sources or destinations"),
    ("Missing path", "files[].sources or destinations"),
    ("algorithm is not supported by Scheduler", "files[].selection_strategy"),
    ("could not convert string to float", "files[].filesize"),
    ("SciTag", "files[].scitag"),
    ("Deletion jobs", "delete"),
    ("dest_surl", "files[].destinations"),
    ("etadata", "params.job_metadata or files[].metadata"),
];

/// The member that a refusal is about, where its words tell.
pub(crate) fn field(words: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(part, _)| words.contains(part)).map(|(_, field)| *field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_json_and_in_html() {
        let json = Words::of(br#"{"status":"403 Forbidden","message":"Not enough permissions"}"#);
        assert_eq!(json, Words { text: "Not enough permissions".into(), of_application: true });
        let html = Words::of(b"<html><h1>Forbidden</h1>\n<p>Invalid credentials</p></html>");
        assert_eq!(html, Words { text: "Forbidden Invalid credentials".into(), of_application: false });
        assert_eq!(Words::of(b"\xff<").text, "");
        assert_eq!(Words::of(&vec![b'x'; 1 << 20]).text, "[long word]");
    }

    #[test]
    fn the_field_at_fault_is_told_where_it_can_be() {
        assert_eq!(
            field("Invalid value within the request: Missing host (davs:/x)"),
            Some("files[].sources or destinations")
        );
        assert_eq!(
            field("random algorithm is not supported by Scheduler"),
            Some("files[].selection_strategy")
        );
        assert_eq!(field("Malformed request: 'NoneType' object is not iterable"), None);
    }
}
