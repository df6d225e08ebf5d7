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
    admin_issuer = wlcg\ntoken_min_lifetime = 300\n[transfers]\nhop_penalty = 5\na_new_one = 1\n";

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
    let notes = cfg.notes().join("\n");
    assert!(notes.ends_with("not taken over: [transfers] a_new_one, [oidc] token_min_lifetime"), "{notes}");
    let option = |section: &str, key: &str| cfg.options().get(&(section.to_owned(), key.to_owned())).cloned();
    assert_eq!(option("transfers", "hop_penalty").as_deref(), Some("5"));
    assert_eq!(option("oidc", "idpsecrets"), None);
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
fn options_that_are_moved_in_are_options_and_lines_further_in_go_on() {
    let text = "[database]\n  default = sqlite:////a\n  schema = x\n[conveyor]\n  scheme = davs,\n    root\n  max_time_in_queue = default:7\n";
    let (_folder, cfg) = read(text).unwrap();
    assert_eq!(
        cfg.keys().unwrap(),
        json!({
            "rucio": {"database": "sqlite:////a", "schema": "x"},
            "submit": {"schemes": ["davs", "root"], "max_time_in_queue_h": {"default": 7}},
        })
    );
}

#[test]
fn what_the_table_alone_says_and_is_not_taken_over_is_named_too() {
    let (_folder, mut cfg) = read("[policy]\npackage = p\nlfn2pfn_algorithm_default = identity\n").unwrap();
    cfg.complete(vec![("failover_scheme".to_owned(), "davs".to_owned())]);
    let notes = cfg.notes().join("\n");
    assert!(notes.contains("not taken over: [conveyor] failover_scheme"), "{notes}");
    assert!(notes.contains("`[policy] package`"), "{notes}");
    let key = ("policy".to_owned(), "lfn2pfn_algorithm_default".to_owned());
    assert_eq!(cfg.options().get(&key).map(String::as_str), Some("identity"));
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
