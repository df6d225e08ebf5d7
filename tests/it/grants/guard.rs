//! What protects an issuer: breaker and rate budget.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_in_trouble_is_left_alone_and_then_probed_once() {
    let rig = rig().await;
    let guard = Arc::new(Guard::new(GuardSettings {
        open_after_failures: 3,
        open_initial: Duration::from_secs(5),
        ..GuardSettings::default()
    }));
    let of =
        |id: &str| rig.of(OAuthSettings { retry: hasty(), guard: Arc::clone(&guard), ..rig.settings(id) });
    let (client, wish) = (Arc::new(of("submitter")), request("fts", "fts"));
    assert!(client.client_credentials(&wish).await.is_ok());
    rig.issuer.reset_calls();
    rig.issuer.set_fault(Fault::Status(503));
    while guard.open_for().is_none() {
        assert!(client.client_credentials(&wish).await.is_err());
    }
    assert_eq!(rig.issuer.token_calls().total(), 3);

    // Also for another client at this issuer.
    let subject = rig.issuer.mint(serde_json::json!({"aud": "fts"})).unwrap();
    let other = of("exchanger");
    for _ in 0..5 {
        let open = client.client_credentials(&wish).await.unwrap_err();
        assert!(matches!(open, TokenError::Open { until_s: 1..=5, .. }), "{open}");
        let shared = other.exchange(&subject, &request(STORAGE, "storage.read:/x")).await;
        assert!(matches!(shared.unwrap_err(), TokenError::Open { .. }));
    }
    assert_eq!(rig.issuer.token_calls().total(), 3, "nothing was sent");

    // The probe fails, and it stays open for twice as long.
    tokio::time::sleep(guard.open_for().unwrap_or_default()).await;
    assert!(client.client_credentials(&wish).await.is_err());
    assert_eq!(rig.issuer.token_calls().total(), 4);
    assert!(guard.open_for().unwrap() > Duration::from_secs(5));

    // Of ten who come when it may be probed again, one passes.
    rig.issuer.set_fault(Fault::Slow(Duration::from_secs(5)));
    tokio::time::sleep(guard.open_for().unwrap()).await;
    let ask = || {
        let (client, wish) = (Arc::clone(&client), wish.clone());
        tokio::spawn(async move { client.client_credentials(&wish).await.is_ok() })
    };
    let asked: Vec<_> = (0..10).map(|_| ask()).collect();
    let mut given = 0;
    for one in asked {
        given += u64::from(one.await.unwrap());
    }
    assert_eq!((given, rig.issuer.token_calls().client_credentials), (1, 1));
    rig.issuer.set_fault(Fault::None);
    assert_eq!(guard.open_for(), None);
    assert!(client.client_credentials(&wish).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_keep_to_the_rate_budget() {
    let rig = rig().await;
    let of = |retry| {
        let guard = GuardSettings { calls_per_s: 10, burst: 1, ..GuardSettings::default() };
        Arc::new(rig.of(OAuthSettings {
            retry,
            guard: Arc::new(Guard::new(guard)),
            ..rig.settings("submitter")
        }))
    };
    let ask = async |client: &Arc<OAuthClient>| {
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let client = Arc::clone(client);
                tokio::spawn(async move { client.client_credentials(&request("fts", "fts")).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for one in asked {
            outcomes.push(one.await.unwrap());
        }
        outcomes
    };
    let start = Instant::now();
    assert!(ask(&of(RetryPolicy::default())).await.iter().all(Result::is_ok));
    assert!(start.elapsed() >= Duration::from_millis(690), "{:?}", start.elapsed());

    rig.issuer.reset_calls();
    let outcomes = ask(&of(hasty())).await;
    let throttled = outcomes.iter().filter(|one| matches!(one, Err(TokenError::Throttled { .. }))).count();
    assert!(throttled > 0, "eight turns take 700 ms and there are 300: {outcomes:?}");
    assert_eq!(rig.issuer.token_calls().total(), 8 - u64::try_from(throttled).unwrap());
}
