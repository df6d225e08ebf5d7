//! `wlcg-token device` and `refresh`, as a person uses them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use testbed::binaries::Binaries;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::*;

/// The arguments that say who asks whom for what.
fn asked(rig: &Rig, scope: &str) -> Vec<String> {
    let secret = rig.folder.path().join("secret");
    std::fs::write(&secret, "device:&+ secret\n").unwrap();
    let [secret, ca] = [secret.as_path(), rig.pki.ca_file()].map(|path| path.display().to_string());
    let issuer = rig.issuer.name();
    let pairs = [
        ("--issuer", issuer),
        ("--client-id", "device"),
        ("--client-secret-file", &secret),
        ("--audience", STORAGE),
        ("--scope", scope),
        ("--ca-file", &ca),
    ];
    pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
}

async fn command(rig: &Rig, arguments: &[&str], scope: &str) -> Command {
    let mut command = Command::new(Binaries::find(false).await.unwrap().wlcg_token);
    command.args(arguments).args(asked(rig, scope)).env("XDG_RUNTIME_DIR", rig.folder.path());
    command.env_remove("BEARER_TOKEN").env_remove("BEARER_TOKEN_FILE").kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output, code: i32) -> String {
    let [data, line] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "{data}{line}");
    if code == 0 { data } else { line }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_and_the_token_lies_where_tools_find_it() {
    let rig = rig().await;
    rig.issuer.set_device_codes(Duration::from_secs(60), Some(Duration::from_secs(1)));
    let refresh = rig.folder.path().join("refresh");
    let keep = refresh.display().to_string();
    let arguments = ["device", "--refresh-token-file", &keep];
    let mut child = command(&rig, &arguments, "storage.read:/data offline_access").await.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut line = async || lines.next_line().await.unwrap().unwrap();
    assert!(line().await.strip_prefix("Open   ").unwrap().starts_with(rig.issuer.name()));
    let shown = line().await;
    let user_code = shown.strip_prefix("Enter  ").unwrap();
    assert!(line().await.starts_with("or open https://"), "no QR code where no terminal is");
    assert!(rig.issuer.approve(user_code, "alice"));
    let output = child.wait_with_output().await.unwrap();
    let data = said(&output, 0);
    let place = data.lines().next().unwrap();
    assert_eq!(Path::new(place).parent().unwrap(), rig.folder.path());
    assert_eq!((mode(place.as_ref()), mode(&refresh)), (0o600, 0o600));
    let stored = AccessToken::new(std::fs::read_to_string(place).unwrap().trim()).unwrap();
    assert_eq!(scope(&stored), "storage.read:/data");
    assert!(data.contains(stored.fingerprint().as_str()) && !data.contains(stored.expose()));

    // And later, without the person.
    let first = std::fs::read_to_string(&refresh).unwrap();
    let narrow = "storage.read:/data/run1";
    let output = command(&rig, &["refresh", "--refresh-token-file", &keep], narrow).await.output().await;
    let token = AccessToken::new(said(&output.unwrap(), 0).trim()).unwrap();
    assert_eq!(scope(&token), narrow);
    let second = std::fs::read_to_string(&refresh).unwrap();
    assert_ne!(first, second, "the issuer rotates, and the new token is kept");
    let again = ["refresh", "--refresh-token-file", &keep, "--store", "--json"];
    let output = command(&rig, &again, narrow).await.output().await.unwrap();
    assert!(said(&output, 0).contains("\"place\""));

    // The one that was spent is refused, and the file is as it was.
    std::fs::write(&refresh, &first).unwrap();
    let output = command(&rig, &["refresh", "--refresh-token-file", &keep], narrow).await.output().await;
    let line = said(&output.unwrap(), 1);
    assert!(line.contains("invalid_grant") && !line.contains(first.trim()), "{line}");
    assert_eq!(std::fs::read_to_string(&refresh).unwrap(), first);
    let left = std::fs::read_dir(rig.folder.path()).unwrap();
    let drafts =
        left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("refresh."));
    assert_eq!(drafts.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_says_no_and_a_file_that_others_read_is_refused() {
    let rig = rig().await;
    rig.issuer.set_device_codes(Duration::from_secs(60), Some(Duration::from_secs(1)));
    let mut child = command(&rig, &["device", "--print"], "storage.read:/data").await.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.next_line().await.unwrap();
    let shown = lines.next_line().await.unwrap().unwrap();
    assert!(rig.issuer.deny(shown.strip_prefix("Enter  ").unwrap()));
    let mut end = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        end = line;
    }
    assert!(end.contains("access_denied"), "{end}");
    assert_eq!(child.wait().await.unwrap().code(), Some(1));

    let open = rig.folder.path().join("open");
    std::fs::write(&open, "canary").unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["refresh", "--refresh-token-file", &open.display().to_string()];
    let line = said(&command(&rig, &arguments, "storage.read:/data").await.output().await.unwrap(), 2);
    assert!(line.contains("0600") && !line.contains("canary"), "{line}");
}
