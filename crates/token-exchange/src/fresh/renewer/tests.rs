use sqlx::SqlitePool;
use token_core::{ManualClock, TokenKeeper};

use super::*;
use crate::fts::tests::{NOW, start, texts, token};
use crate::plan::Mode;
use crate::worker::tokens::tests::client;
use crate::worker::{IssuerClient, Lanes};

const LEASE: Duration = Duration::from_secs(120);

/// A renewer whose issuer can't be reached, so that whoever calls it fails.
struct Rig {
    _folder: tempfile::TempDir,
    pool: SqlitePool,
    lanes: Lanes,
    clock: Arc<ManualClock>,
    renewer: Renewer,
}

impl Rig {
    async fn start(width: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (fts, pool) = start(folder.path()).await;
        token(&pool, "t", 60, "r").await;
        let lanes = Lanes::new(width, &[width]);
        let clock = Arc::new(ManualClock::new(NOW));
        let known = IssuerClient::new(Mode::Exchange, client("https://i/"), None, width);
        let keeper = TokenKeeper::new(None, Arc::<ManualClock>::clone(&clock));
        let renewer = Renewer {
            fts: fts.clone(),
            tokens: Arc::new(Tokens::new(vec![known], lanes.clone(), Arc::new(keeper), Duration::ZERO)),
            clock: Arc::<ManualClock>::clone(&clock),
            lease: LEASE,
            tempo: Arc::default(),
            in_flight: 1,
            margin: Duration::from_secs(300),
            seen: Arc::new(Seen::new(fts, Arc::<ManualClock>::clone(&clock))),
        };
        Self { _folder: folder, pool, lanes, clock, renewer }
    }

    async fn renew(&self) -> Option<Outcome> {
        let token = self.renewer.fts.renewable(&["t"]).await.unwrap().remove("t").unwrap();
        self.renewer.renew_now(&token).await.unwrap()
    }

    /// Until its token is leased, and a little longer.
    async fn leased(&self) {
        while texts(&self.pool, "SELECT token_id FROM token_exchange_token WHERE lease_end > 0")
            .await
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_refresh_token_is_not_used_after_a_wait_that_was_longer_than_the_lease() {
    let rig = Rig::start(1).await;
    let place = rig.lanes.place(0, Haste::Waits).await.unwrap();
    let wait = async {
        rig.leased().await;
        rig.clock.advance(LEASE);
        drop(place);
    };
    let (outcome, ()) = tokio::join!(rig.renew(), wait);
    assert!(outcome.is_none(), "{outcome:?}");
    let tried = "SELECT token_id FROM token_exchange_token WHERE attempts > 0";
    assert_eq!(texts(&rig.pool, tried).await, [""; 0]);
    assert!(matches!(rig.renew().await, Some(Outcome::NotNow(_))), "the issuer can't be reached");
    assert_eq!(texts(&rig.pool, tried).await, ["t"]);
}

#[tokio::test]
async fn what_a_transfer_asks_for_goes_before_what_waits_for_its_turn() {
    let rig = Rig::start(2).await;
    let held =
        [rig.lanes.place(0, Haste::Waits).await.unwrap(), rig.lanes.place(0, Haste::Waits).await.unwrap()];
    let queue: Vec<_> = (0..3)
        .map(|_| {
            let lanes = rig.lanes.clone();
            tokio::spawn(async move { lanes.place(0, Haste::Waits).await.unwrap().forget() })
        })
        .collect();
    let go = async {
        rig.leased().await;
        drop(held);
    };
    // The first in the queue takes the one place and keeps it, the renewal the other.
    let renewed = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(rig.renew(), go).0 });
    assert!(matches!(renewed.await, Ok(Some(Outcome::NotNow(_)))));
    queue.iter().for_each(tokio::task::JoinHandle::abort);
}
