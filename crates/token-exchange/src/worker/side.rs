//! What each side of a waiting file needs.

use std::collections::HashMap;

use token_core::{TokenRequest, UnixSeconds};

use super::desk::{File, Key, Side, Taken};
use crate::decide::Token;
use crate::fts::hand_over::Handed;
use crate::fts::waiting::{Subject, WaitingFile, WaitingJob};
use crate::plan::{self, Planning, Sided};

/// Works out what the files of a job need; `ask` hears of each token that is to be got.
pub(super) fn taken(
    job: WaitingJob,
    planning: &Planning,
    subjects: &HashMap<String, Subject>,
    now: UnixSeconds,
    ask: &mut impl FnMut(&Key, &Subject, TokenRequest),
) -> Taken {
    let file = |file: WaitingFile| {
        let sides = [plan::Side::Source, plan::Side::Destination];
        let needs = sides.map(|side| planning.side(&file, side, subjects, now));
        // When one side can't be had for good, the file fails and needs no token for the other.
        let fails = needs.iter().any(|need| matches!(need, Sided::Refused(_)));
        let sides = needs.map(|need| match need {
            Sided::Given(id) => {
                let ends = planning.unrenewed_end(&need, subjects);
                Side::Known(Token::Got(Handed::Given { id: id.to_owned(), ends }))
            }
            Sided::Refused(why) => Side::Known(Token::Refused(why)),
            Sided::Wait(why) => Side::Known(Token::Wait(why)),
            Sided::Made(id, request) => match subjects.get(id).filter(|_| !fails) {
                None => Side::Known(Token::Wait("its token was not asked for".into())),
                Some(subject) => {
                    let (audience, scope) = (request.audience.clone(), request.scope.to_string());
                    let key = Key { subject: id.to_owned(), audience, scope };
                    ask(&key, subject, request);
                    Side::Open(key, subject.issuer.clone())
                }
            },
        });
        File { id: file.id, planned: file.planned, sides }
    };
    let WaitingJob { lease, kind, queue_ends, files, .. } = job;
    Taken { lease, kind, queue_ends, files: files.into_iter().map(file).collect() }
}
