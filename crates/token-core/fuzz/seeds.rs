//! Seeds for the fuzz targets, made from the test vectors: `cargo run -p token-core --example fuzz-seeds -- FOLDER` makes one
//! folder for each target.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const SCOPE_PATH: &str = include_str!("../tests/data/scope-path.json");
const CLAIMS: &str = include_str!("../tests/data/claims.json");
const SIGNED: &str = include_str!("signed.json");

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: fuzz-seeds FOLDER")?);
    let (scope_path, claims) = (cases(SCOPE_PATH)?, cases(CLAIMS)?);
    let signed: Value = serde_json::from_str(SIGNED)?;
    let text = |case: &Value, name: &str| case[name].as_str().unwrap_or("/").to_owned();

    let scopes: Vec<_> = scope_path.iter().map(|case| text(case, "scope")).collect();
    let granted = scopes.iter().flat_map(|scope| scope.split(' ')).filter_map(|item| item.split_once(':'));
    let paths = granted.zip(&scope_path).map(|((_, path), case)| format!("{path}\n{}", text(case, "path")));
    let permits = scope_path
        .iter()
        .map(|case| format!("{}\n{}\n{}", text(case, "scope"), text(case, "path"), text(case, "dst")));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned =
        claims.iter().map(|case| format!("{}.{}.c2ln", part(&case["header"]), part(&case["claims"])));
    let tokens =
        signed["tokens"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let keys = signed["keys"]["keys"].as_array().cloned().unwrap_or_default();
    let documents = ["https://issuer.example", "http://127.0.0.1:8080/"].map(|issuer| {
        let url = |path: &str| format!("{}/{path}", issuer.trim_end_matches('/'));
        json!({"issuer": issuer, "token_endpoint": url("token"), "jwks_uri": url("jwk"),
            "device_authorization_endpoint": url("devicecode"), "scopes_supported": ["openid", "storage.read:/"]})
    });

    write(&folder, "scope", scopes.windows(3).map(|three| three.join("\n")))?;
    write(&folder, "path", paths)?;
    write(&folder, "permit", permits)?;
    write(&folder, "token", unsigned.chain(tokens))?;
    write(&folder, "claims", claims.iter().map(|case| case["claims"].to_string()))?;
    let sets = keys.iter().map(|key| json!({"keys": [key]}).to_string());
    write(&folder, "jwks", sets.chain([signed["keys"].to_string()]))?;
    write(&folder, "metadata", documents.iter().map(Value::to_string))?;
    Ok(())
}

fn cases(vectors: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let vectors: Value = serde_json::from_str(vectors)?;
    Ok(vectors["cases"].as_array().ok_or("the vectors have no cases")?.clone())
}

/// One file for each different seed. The names are numbers, so that the next call writes the same files.
fn write(
    folder: &std::path::Path,
    target: &str,
    seeds: impl Iterator<Item = String>,
) -> Result<(), Box<dyn Error>> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    for (at, seed) in seeds.collect::<BTreeSet<_>>().iter().enumerate() {
        fs::write(folder.join(format!("seed-{at:03}")), seed)?;
    }
    Ok(())
}
