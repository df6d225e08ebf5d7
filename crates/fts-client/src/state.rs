//! States of jobs and files, by FTS's own words.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! states {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$inner])* $variant,)*
            /// A word of an FTS newer than this list.
            Other(String),
        }

        impl $name {
            /// FTS's word.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)*
                    _ => Self::Other(word),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

states! {
    /// `job_state`.
    JobState {
        /// Files wait to come from tape.
        Staging = "STAGING",
        /// Files wait to go to tape.
        Archiving = "ARCHIVING",
        /// Files change their quality of service.
        QosTransition = "QOS_TRANSITION",
        /// That change was asked for.
        QosRequestSubmitted = "QOS_REQUEST_SUBMITTED",
        /// Nothing was begun yet; files may be in TOKEN_PREP.
        Submitted = "SUBMITTED",
        /// A file is about to begin.
        Ready = "READY",
        /// A file was begun.
        Active = "ACTIVE",
        /// All files are there.
        Finished = "FINISHED",
        /// No file is there.
        Failed = "FAILED",
        /// Some files are there, others failed.
        FinishedDirty = "FINISHEDDIRTY",
        /// Cancelled. A file that was in TOKEN_PREP is left as it is, and runs if it is released afterwards (observed).
        Canceled = "CANCELED",
        /// A deletion job of an older FTS.
        Delete = "DELETE",
    }
}

states! {
    /// `file_state`.
    FileState {
        /// Waits to come from tape.
        Staging = "STAGING",
        /// Waits to go to tape.
        Archiving = "ARCHIVING",
        /// Changes its quality of service.
        QosTransition = "QOS_TRANSITION",
        /// That change was asked for.
        QosRequestSubmitted = "QOS_REQUEST_SUBMITTED",
        /// Staging has begun.
        Started = "STARTED",
        /// In the queue.
        Submitted = "SUBMITTED",
        /// About to begin.
        Ready = "READY",
        /// Being copied.
        Active = "ACTIVE",
        /// There.
        Finished = "FINISHED",
        /// Failed for good.
        Failed = "FAILED",
        /// Cancelled.
        Canceled = "CANCELED",
        /// A replica that was not tried, or a hop whose turn has not come.
        NotUsed = "NOT_USED",
        /// Held back, since a storage is banned.
        OnHold = "ON_HOLD",
        /// Held back before staging.
        OnHoldStaging = "ON_HOLD_STAGING",
        /// To begin at once.
        ForceStart = "FORCE_START",
        /// Its tokens are not ready.
        TokenPrep = "TOKEN_PREP",
    }
}

impl JobState {
    /// Whether the job has ended.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::FinishedDirty | Self::Canceled)
    }
}

impl FileState {
    /// Whether FTS does no more for this file. `NOT_USED` is an end only once the job has ended.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Canceled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        for word in ["TOKEN_PREP", "FINISHED", "NEW_STATE"] {
            let state = FileState::from(word.to_owned());
            assert_eq!(state.as_str(), word);
            assert_eq!(serde_json::to_value(&state).unwrap(), word);
        }
        assert_eq!(FileState::from("NEW_STATE".to_owned()), FileState::Other("NEW_STATE".into()));
        assert!(JobState::FinishedDirty.is_terminal() && !JobState::Active.is_terminal());
    }
}
