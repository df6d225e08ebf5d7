//! The way to a token that is kept: from memory, and from disk after a restart.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use token_core::{
    AccessToken, CacheKey, CachedToken, Clock as _, Freshness, Grant, ScopeSet, SealKeys, SledCache,
    SledSettings, SystemClock, TokenError, TokenKeeper, TokenWish,
};

use crate::issuer::{AUDIENCE, ISSUER, signed};
use crate::progress;
use crate::report::{Figure, Goal, Report, quantile};

const KEYS: usize = 1000;
const PASSES: usize = 100;
const RESTARTS: usize = 10;

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(report))
}

async fn measure(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let token = AccessToken::new(signed()?.remove(0).token)?;
    let wishes: Vec<TokenWish> = (0..KEYS).map(wish).collect::<Result<_, _>>()?;

    progress("tokens from memory");
    let keeper = keeper(folder.path())?;
    for wish in &wishes {
        let expires_at = SystemClock.now().plus(Duration::from_secs(3600));
        let token = token.clone();
        let fetch = move || {
            let token = token.clone();
            async move { Ok(Grant { token, expires_at }) }
        };
        keeper.get(wish.clone(), fetch).await?;
    }
    let mut times = Vec::with_capacity(KEYS * PASSES);
    for _ in 0..PASSES {
        for wish in &wishes {
            times.push(kept(&keeper, wish).await?);
        }
    }
    report.add("token from memory, p50", Ok(figure(&mut times, 0.5, "us", 1e6, None)));
    report.add("token from memory, p99", Ok(figure(&mut times, 0.99, "us", 1e6, Some(Goal::Below(50.0)))));

    progress("tokens from disk");
    drop(keeper);
    let (mut times, mut opening) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        let start = Instant::now();
        let keeper = self::keeper(folder.path())?;
        opening.push(start.elapsed().as_secs_f64());
        for wish in &wishes {
            times.push(kept(&keeper, wish).await?);
        }
    }
    report.add("first get of a key after a restart, p50", Ok(figure(&mut times, 0.5, "ms", 1e3, None)));
    let goal = Some(Goal::Below(1.0));
    report.add("first get of a key after a restart, p99", Ok(figure(&mut times, 0.99, "ms", 1e3, goal)));
    report.add("opening the store, p50", Ok(figure(&mut opening, 0.5, "ms", 1e3, None)));
    Ok(())
}

/// A keeper as a daemon has it at start: nothing in memory, the store on disk.
fn keeper(folder: &Path) -> Result<TokenKeeper, Box<dyn Error>> {
    let keys = SealKeys::from_file(&folder.join("key"))?;
    let store = SledCache::open(SledSettings::new(folder.join("tokens"), keys))?;
    Ok(TokenKeeper::new(Some(Arc::new(store)), Arc::new(SystemClock)))
}

fn wish(number: usize) -> Result<TokenWish, Box<dyn Error>> {
    let key = CacheKey {
        issuer: ISSUER.into(),
        client_id: "5c6a9b2e-1d3f-4a57-9a1c-0b1f2d3e4a5b".into(),
        subject: "e1eb758b-b73c-4761-bfff-adc793da409c".into(),
        audience: AUDIENCE.into(),
        scope: ScopeSet::parse(&format!("storage.read:/data/run{number} storage.create:/data/out{number}"))?,
    };
    Ok(TokenWish { key, min_life: Duration::from_secs(300), freshness: Freshness::Kept })
}

/// The seconds that it takes to get a token that is kept. It is an error when it is not.
async fn kept(keeper: &TokenKeeper, wish: &TokenWish) -> Result<f64, TokenError> {
    let wish = wish.clone();
    let start = Instant::now();
    let token: CachedToken = keeper.get(wish, || async { Err(lost()) }).await?;
    let taken = start.elapsed().as_secs_f64();
    drop(token);
    Ok(taken)
}

fn lost() -> TokenError {
    TokenError::Unreachable { issuer: ISSUER.into(), call: "benchmark", reason: "a token was not kept" }
}

fn figure(times: &mut [f64], part: f64, unit: &'static str, scale: f64, goal: Option<Goal>) -> Figure {
    let value = quantile(times, part) * scale;
    Figure { value, unit, note: format!("{} gets", times.len()), goal }
}
