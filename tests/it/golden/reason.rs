//! The differences by design between what our submitter leaves behind and what Rucio's own does, each with its reason. Nothing else may
//! differ. Whatever a test prints of them comes from here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tables;

/// How often each was met.
pub(super) type ByDesign = BTreeMap<Reason, usize>;

/// A difference by design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    JobId,
    EndpointTokens,
    HopId,
    SourceOrder,
    Time,
    Certificate,
    JobCut,
    TriedBefore,
    OneRun,
    Why,
}

/// Those that can make two values differ, in the order in which they are looked for.
const OF_VALUES: [Reason; 5] =
    [Reason::JobId, Reason::EndpointTokens, Reason::HopId, Reason::SourceOrder, Reason::Time];

impl Reason {
    /// What differs, and why.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::JobId => {
                "`params.id_generator` and `params.sid` are ours alone: a job whose id is known before the POST can be found after a crash"
            }
            Self::EndpointTokens => {
                "no `source_tokens` and `destination_tokens`: the endpoint tokens are got behind FTS, one per endpoint"
            }
            Self::HopId => "the request of a hop is made by who submits, and has an id of its own",
            Self::SourceOrder => {
                "sources after the first stand in another order where ranking and distance are equal: Rucio's is random"
            }
            Self::Time => "a path on tape that was tried before ends with the time of the submission",
            Self::Certificate => {
                "what may not go by token (a side that is not `davs`, an RSE without `oidc_support`) is left in `Q` with its hops, where \
                 Rucio's goes by certificate: never a silent change of authentication"
            }
            Self::JobCut => {
                "files are cut into jobs in another way: those of one job have equal parameters, which are compared file by file"
            }
            Self::TriedBefore => {
                "`sources.url` and `dest_rse_id` of a request that was tried before are those that are posted now; Rucio keeps those of \
                 the first try, by whose URL its poller does not find the source"
            }
            Self::OneRun => "ids, FTS and time in a message are those of one run",
            Self::Why => "`requests.err_msg` says why a request was ended; Rucio leaves it empty",
        }
    }

    /// Both values of `what` without what may differ for this reason.
    fn taken_out(self, what: &str, theirs: &Value, ours: &Value, hop: bool) -> (Value, Value) {
        let (mut theirs, mut ours) = (theirs.clone(), ours.clone());
        match (self, what) {
            // Only ours may have them.
            (Self::JobId, "params") => {
                for key in ["id_generator", "sid"] {
                    ours.as_object_mut().map(|ours| ours.remove(key));
                }
            }
            (Self::EndpointTokens, "source_tokens" | "destination_tokens") if ours.is_null() => {
                theirs = Value::Null;
            }
            (Self::HopId, "metadata") if hop => {
                theirs["request_id"] = Value::Null;
                ours["request_id"] = Value::Null;
            }
            (Self::SourceOrder, "sources") => {
                for list in [&mut theirs, &mut ours].into_iter().filter_map(Value::as_array_mut) {
                    if let Some(rest) = list.get_mut(1..) {
                        rest.sort_by_key(ToString::to_string);
                    }
                }
            }
            (Self::Time, _) => (theirs, ours) = (timeless(theirs), timeless(ours)),
            _ => (),
        }
        (theirs, ours)
    }
}

/// Why two values of `what` differ; none if they do not.
///
/// # Errors
/// When what differs has no reason.
pub(super) fn reasons(what: &str, theirs: &Value, ours: &Value, hop: bool) -> Result<Vec<Reason>, ()> {
    let (mut theirs, mut ours, mut used) = (theirs.clone(), ours.clone(), Vec::new());
    for reason in OF_VALUES {
        if theirs == ours {
            break;
        }
        let without = reason.taken_out(what, &theirs, &ours, hop);
        if without != (theirs.clone(), ours.clone()) {
            used.push(reason);
            (theirs, ours) = without;
        }
    }
    if theirs == ours { Ok(used) } else { Err(()) }
}

/// Without the time that Rucio adds to a path on tape where one was tried before.
fn timeless(value: Value) -> Value {
    match value {
        Value::String(text) => tables::timeless(&text).into(),
        Value::Array(list) => list.into_iter().map(timeless).collect(),
        value => value,
    }
}
