use super::*;

const SECRETS: &str = r#"{"wlcg": {"issuer": "https://iam/", "client_id": "rucio", "client_secret": "canary-secret",
    "redirect_uris": [], "SCIM": {"client_id": "other"}}}"#;

fn read(text: &str) -> Result<(tempfile::TempDir, RucioCfg), String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("idpsecrets.json"), SECRETS).unwrap();
    let path = folder.path().join("rucio.cfg");
    std::fs::write(&path, text).unwrap();
    RucioCfg::read(&path).map(|cfg| (folder, cfg))
}

const WHOLE: &str = "# Rucio\n[DEFAULT]\nhost = db\n[common]\nmulti_vo: True\n[database]\n\
    default = postgresql://u:canary%%40@%(host)s/rucio\nschema = prod\npool_size = 5\n\
    [conveyor]\nScheme = davs,\n  root\ntransfertool = fts3, globus\nsubmit_timeout = 2.5\nmax_time_in_queue = A:1, default:24\n\
    partition_hash_var = requests.rule_id\nuse_preparer = true\n; no more\n[oidc]\nidpsecrets = idpsecrets.json\n\
    admin_issuer = wlcg\ntoken_min_lifetime = 300\n[transfers]\nhop_penalty = 5\n";

#[test]
fn options_become_our_keys_and_others_are_named() {
    let (_folder, cfg) = read(WHOLE).unwrap();
    let expected = json!({
        "rucio": {"database": "postgresql://u:canary%40@db/rucio", "schema": "prod", "vos": ["*"]},
        "issuer": {"url": "https://iam/", "client_id": "rucio"},
        "submit": {"schemes": ["davs", "root"], "max_time_in_queue_h": {"A": 1, "default": 24}},
        "fts": {"timeout_s": 3},
        "share": {"partition_by": "rule_id"},
    });
    assert_eq!(cfg.keys().unwrap(), expected);
    assert!(cfg.prepares());
    let notes = cfg.notes.join("\n");
    assert!(notes.ends_with("not taken over: [transfers] hop_penalty, [oidc] token_min_lifetime"));
    assert!(notes.contains("others may read it"), "{notes}");
    let debug = format!("{:?}", cfg.client);
    assert!(!debug.contains("canary"), "{debug}");
}

#[test]
fn the_table_has_what_the_file_has_not() {
    let (_folder, mut cfg) = read("[conveyor]\nscheme = davs\n").unwrap();
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert!(!cfg.complete(vec![option("scheme", "root")]));
    assert!(cfg.complete(vec![option("default-source-strategy", "50%auto")]));
    assert_eq!(
        cfg.keys().unwrap(),
        json!({"submit": {"schemes": ["davs"], "selection_strategy": "50%auto"}})
    );
}

#[test]
fn a_database_of_the_conveyor_comes_first() {
    let text =
        "[database]\ndefault = sqlite:////a\nschema = x\n[conveyor-database]\ndefault = sqlite:////b\n";
    let (_folder, cfg) = read(text).unwrap();
    assert_eq!(cfg.keys().unwrap(), json!({"rucio": {"database": "sqlite:////b"}}));
}

#[test]
fn what_is_wrong_is_one_line_without_values() {
    for (text, named) in [
        ("canary", "line 1"),
        ("[database]\ndefault = canary%x\n", "[database] default"),
        ("[conveyor]\nsubmit_timeout = canary\n", "submit_timeout"),
        ("[conveyor]\nmax_time_in_queue = canary\n", "max_time_in_queue"),
        ("[conveyor]\npartition_hash_var = canary\n", "partition_hash_var"),
        ("[conveyor]\ntransfertool = globus\n", "transfertool"),
        ("[oidc]\nidpsecrets = none.json\nadmin_issuer = wlcg\n", "none.json"),
        ("[oidc]\nidpsecrets = idpsecrets.json\nadmin_issuer = other\n", "no entry `other`"),
    ] {
        let error = read(text).and_then(|(_folder, cfg)| cfg.keys().map(drop)).unwrap_err();
        assert!(error.contains(named) && !error.contains("canary") && !error.contains('\n'), "{error}");
    }
}
