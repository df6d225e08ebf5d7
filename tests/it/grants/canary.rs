//! What the library writes of its secrets, at trace level and by `Debug` and `Display`: nothing.

use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, OnceLock};

use testbed::issuer::Fault;
use token_core::{
    CacheKey, ClientCredentials, Freshness, Places, SealKeys, SledCache, SledSettings, TokenCache as _,
    TokenKeeper, TokenWish,
};

use super::*;

static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();

struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on, all that is logged in this process.
fn log() -> Arc<Mutex<Vec<u8>>> {
    let start = || {
        let log = Arc::new(Mutex::default());
        let writer = Arc::clone(&log);
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || Log(Arc::clone(&writer)))
            .init();
        log
    };
    Arc::clone(LOG.get_or_init(start))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_or_shown() {
    let log = log();
    let rig = rig().await;
    let (mut shown, mut secrets) = (String::new(), Vec::new());
    let mut show = |thing: &dyn std::fmt::Debug| writeln!(shown, "{thing:?} {thing:#?}").unwrap();
    let wish = request(STORAGE, "storage.read:/data");
    let wrong = OAuthSettings {
        authentication: ClientAuthentication::Post(ClientSecret::new("canary-wrong-secret")),
        ..rig.settings("submitter")
    };
    secrets.extend(["submitter:&+ secret", "device:&+ secret", "canary-wrong-secret"].map(str::to_owned));
    show(&rig.settings("submitter"));
    show(&wrong);
    let refused = rig.of(wrong).client_credentials(&wish).await.unwrap_err();
    show(&refused);
    show(&refused.to_string());

    let key = AssertionKey::from_pem(&rig.keys[1].pem(), None).unwrap();
    show(&key);
    secrets.extend(rig.keys[1].pem().lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    let signer = OAuthSettings {
        authentication: ClientAuthentication::PrivateKeyJwt(key),
        ..rig.settings("signer-ec")
    };
    show(&signer);
    show(&rig.of(signer).client_credentials(&wish).await.unwrap());

    let subject = rig.subject().await;
    let given = rig.client("exchanger").exchange_for_refresh(&subject, &wish).await.unwrap();
    show(&given);
    let refresh = given.refresh.clone().unwrap();
    secrets.extend(
        [subject.expose(), given.grant.as_ref().unwrap().token.expose(), refresh.expose()].map(str::to_owned),
    );
    let again = rig.client("exchanger").refresh(&refresh, &wish).await.unwrap();
    show(&again);
    secrets.push(again.refresh.clone().unwrap().expose().to_owned());
    let spent = rig.client("exchanger").refresh(&refresh, &wish).await.unwrap_err();
    show(&spent);
    show(&spent.to_string());

    rig.issuer.set_device_codes(Duration::from_secs(60), Some(Duration::from_secs(1)));
    let device = rig.client("device").device_authorization(&wish).await.unwrap();
    show(&device);
    assert!(rig.issuer.approve(&device.user_code, "alice"));
    let device = rig.client("device").device_token(&device).await.unwrap();
    show(&device);
    secrets.push(device.grant.unwrap().token.expose().to_owned());

    // The cache, with a key that is a canary, on disk and after a fault.
    let (path, file) = (rig.folder.path().join("tokens"), rig.folder.path().join("cache.key"));
    std::fs::write(&file, "ca4a71e5".repeat(8)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    secrets.push("ca4a71e5ca4a71e5".to_owned());
    let settings = SledSettings::new(&path, SealKeys::from_file(&file).unwrap());
    show(&settings);
    let cache = Arc::new(SledCache::open(settings).unwrap());
    let keeper = TokenKeeper::new(Some(cache.clone()), Arc::new(SystemClock));
    let client = Arc::new(rig.client("submitter"));
    let source = ClientCredentials::new(client, Arc::new(keeper.clone()), wish.clone(), Duration::ZERO);
    let held = token_core::BearerSource::bearer(&source, Freshness::Kept).await.unwrap();
    show(&held);
    show(&keeper.counts());
    secrets.push(held.expose().to_owned());
    let key = CacheKey {
        issuer: rig.issuer.name().to_owned(),
        client_id: "submitter".into(),
        subject: "submitter".into(),
        audience: wish.audience.clone(),
        scope: wish.scope.clone(),
    };
    let kept = cache.get(&key).unwrap().unwrap();
    assert_eq!(kept.token, held, "it is there, sealed");
    show(&kept);
    show(&TokenWish { key, min_life: Duration::ZERO, freshness: Freshness::Fresh });
    let places = Places {
        token: Some("canary-bearer\u{e9}".into()),
        file: None,
        runtime_dir: None,
        tmp: "/tmp".into(),
        euid: 0,
    };
    secrets.push("canary-bearer".to_owned());
    show(&places.discover().unwrap_err());
    show(&places.discover().unwrap_err().to_string());
    for fault in [Fault::WrongAudience, Fault::NarrowScope, Fault::Down] {
        rig.issuer.set_fault(fault);
        let outcome = rig.hasty("submitter").client_credentials(&wish).await;
        show(&outcome);
    }

    let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    assert!(log.contains("TRACE") && log.contains("hyper"), "the libraries below talk too");
    assert!(secrets.len() > 10 && secrets.iter().all(|secret| secret.len() > 12));
    for secret in &secrets {
        for (place, text) in [("the log", &log), ("what is shown", &shown)] {
            let at = text.find(secret.as_str());
            assert!(
                at.is_none(),
                "a secret is in {place}, after: {}",
                &text[..at.unwrap()].lines().last().unwrap_or_default()
            );
        }
    }
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            let bytes = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            assert!(!secrets.iter().any(|secret| bytes.contains(secret.as_str())), "{}", file.display());
        }
    }
}
