use super::*;

fn rse(name: &str, attributes: &[(&str, &str)], protocols: &[(&str, &str, i64, &str)]) -> Rse {
    let protocol = |(scheme, host, port, prefix): &(&str, &str, i64, &str)| Protocol {
        hostname: (*host).into(),
        port: *port,
        ..Protocol::plain(scheme, prefix)
    };
    Rse {
        attributes: attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        protocols: protocols.iter().map(protocol).collect(),
        ..Rse::plain(name)
    }
}

#[derive(Deserialize)]
struct File {
    rse: Vec<TokenSettings>,
}

impl daemon::config::Configuration for File {}

fn table(text: &str) -> Result<Vec<TokenSettings>, daemon::Failure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    daemon::config::load(&path, "NO_SUCH_PREFIX").map(|file: File| file.rse)
}

fn rules(carried: Carried, text: &str) -> TokenRules {
    let table = table(if text.is_empty() { "rse = []" } else { text }).unwrap();
    TokenRules { carried, table, ..TokenRules::default() }
}

fn asked(rules: &TokenRules, rse: &Rse, side: Side) -> (String, String) {
    let TokenRequest { audience, scope } = rules.request(rse, side).unwrap();
    (audience, scope.to_string())
}

#[test]
fn audience_and_scope_are_rucios() {
    let rules = rules(Carried::Managed, "");
    let two = rse(
        "R",
        &[("oidc_base_path", "/vo")],
        &[
            ("davs", "b.example", 443, "/vo/rucio"),
            ("davs", "a.example", 8443, "/vo/other"),
            ("https", "c.example", 443, "/vo/third"),
            ("davs", "b.example", 1094, "/vo/rucio"),
        ],
    );
    // Hosts of all davs protocols, sorted, without ports; every prefix without the base path.
    assert_eq!(
        asked(&rules, &two, Side::Source),
        ("a.example b.example".into(), "storage.read:/other storage.read:/rucio offline_access".into())
    );
    let (_, destination) = asked(&rules, &two, Side::Destination);
    assert_eq!(
        ScopeSet::parse(&destination).unwrap(),
        ScopeSet::parse(
            "offline_access storage.modify:/other storage.modify:/rucio storage.read:/other storage.read:/rucio"
        )
        .unwrap()
    );
}

#[test]
fn a_path_in_a_scope_begins_with_a_slash() {
    let rules = rules(Carried::Unmanaged, "");
    for (base, prefix, expected) in [
        ("/vo/", "/vo/rucio/", "/rucio/"),
        ("/vo/rucio", "/vo/rucio", "/"),
        ("", "/vo/rucio", "/vo/rucio"),
        ("/elsewhere", "vo", "/vo"),
        ("/v", "//vo//x", "/vo/x"),
    ] {
        let rse = rse("R", &[("oidc_base_path", base)], &[("davs", "h", 443, prefix)]);
        assert_eq!(
            asked(&rules, &rse, Side::Source).1,
            format!("storage.read:{expected}"),
            "{base} {prefix}"
        );
    }
    let climbing = rse("R", &[], &[("davs", "h", 443, "/../x")]);
    assert!(rules.request(&climbing, Side::Source).unwrap_err().to_string().contains("RSE R"));
    let other = rse("R", &[], &[("root", "h", 1094, "/x")]);
    assert_eq!(rules.request(&other, Side::Source), Err(Unasked::NoProtocol("R".into())));
}

#[test]
fn the_first_entry_that_fits_an_rse_counts() {
    let table = r#"
        [[rse]]
        name = "ONE"
        audience = "{url}"
        path = "/own"
        [[rse]]
        attribute = "kind=dcache"
        audience = "https://wlcg.example/any"
        base_path = "/pnfs"
        destination = "storage.create storage.read"
        oidc_support = true
        [[rse]]
        attribute = "odd"
        oidc_support = false
    "#;
    let rules = rules(Carried::Unmanaged, table);
    let davs = [("davs", "h", 2880, "/pnfs/vo")];
    let one = rse("ONE", &[("kind", "dcache"), ("oidc_support", "true")], &davs);
    let two = rse("TWO", &[("kind", "dcache")], &davs);
    let three = rse("THREE", &[("odd", "true"), ("oidc_support", "true")], &davs);
    let four = rse("FOUR", &[("odd", "false"), ("oidc_support", "true")], &davs);
    assert_eq!(asked(&rules, &one, Side::Source), ("https://h:2880".into(), "storage.read:/own".into()));
    assert_eq!(
        asked(&rules, &two, Side::Destination),
        ("https://wlcg.example/any".into(), "storage.read:/vo storage.create:/vo".into())
    );
    let by_token = [&one, &two, &three, &four].map(|rse| rules.by_token(rse, "davs"));
    assert_eq!(by_token, [true, true, false, true]);
    assert!(!rules.by_token(&four, "https"));
}

#[test]
fn what_is_no_right_is_refused_at_the_start() {
    for wrong in ["", "storage.read:/x", "offline_access", "read"] {
        let refused = table(&format!("[[rse]]\nsource = \"{wrong}\"")).is_err();
        assert!(refused, "{wrong}");
    }
}
