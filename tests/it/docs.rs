//! The book: its links lead somewhere, its configurations are accepted, its commands run, its references are those of the code, and it
//! speaks of every error. `DOCS_WRITE=1` writes the references anew.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use testbed::grid::{Grid, GridSettings};
use tokio::process::Command;

/// Code that is no command and no configuration of ours.
const OTHER_LANGUAGES: [&str; 6] = ["text", "yaml", "ini", "sql", "json", "toml"];

#[test]
fn links_lead_somewhere_and_every_chapter_is_in_the_summary() {
    let chapters = chapters();
    let summary = &chapters["SUMMARY.md"];
    for name in chapters.keys().filter(|name| *name != "SUMMARY.md") {
        assert!(summary.contains(&format!("]({name})")), "docs/SUMMARY.md does not list {name}");
    }
    for (name, text) in &chapters {
        for link in links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { name.as_str() } else { file };
            let found = chapters.get(target);
            assert!(found.is_some(), "docs/{name}: {link}: there is no such chapter");
            let has = found.is_some_and(|text| anchor.is_empty() || anchors(text).contains(anchor));
            assert!(has, "docs/{name}: {link}: there is no such heading");
        }
    }
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for link in links(&readme) {
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let path = if file.is_empty() { root().join("README.md") } else { root().join(file) };
        assert!(path.exists(), "README.md: {link}: there is no such file");
        let headed = anchor.is_empty() || anchors(&std::fs::read_to_string(&path).unwrap()).contains(anchor);
        assert!(headed, "README.md: {link}: there is no such heading");
    }
}

/// A piece of each error of the sources stands, as it is, in the first column of a table of the chapter on errors.
#[test]
fn the_book_speaks_of_every_error() {
    let chapter = &chapters()["errors.md"];
    let cells = chapter.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let quoted: Vec<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(plain).collect::<Vec<_>>())
        .filter(|piece| piece.len() > 8)
        .collect();
    let mut missing = Vec::new();
    let mut seen = 0;
    for file in sources(&root().join("crates")) {
        if file.components().any(|part| matches!(part.as_os_str().to_str(), Some("fuzz" | "tests" | "bin"))) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for rest in text.split("#[error(").skip(1) {
            let Some(message) = rest.trim_start().strip_prefix('"').map(literal) else { continue };
            seen += 1;
            let is_all_argument =
                constant(&message).iter().all(|piece| piece.trim_matches([' ', ':', ';', ',']).len() < 8);
            let said = plain(&message);
            if !is_all_argument && !quoted.iter().any(|piece| said.contains(piece.as_str())) {
                missing.push(format!("{}: {message}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(seen > 80, "{seen} errors found");
    assert!(missing.is_empty(), "docs/errors.md does not speak of:\n{}", missing.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_configurations_are_accepted_and_references_are_the_code_s() {
    let folder = tempfile::Builder::new().prefix("docs").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    // Something waits in FTS, and something in Rucio.
    let done = grid.conveyor(&["--run-once", "--bulk", "100"]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let chapters = chapters();
    for (daemon, program) in
        [("conveyor", &grid.binaries.conveyor), ("token-exchange", &grid.binaries.token_exchange)]
    {
        let name = format!("reference-{daemon}.md");
        let shown = Command::new(program).args(["config", "show", "--reference"]).output().await.unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        if std::env::var_os("DOCS_WRITE").is_some() {
            std::fs::write(docs().join(&name), &shown).unwrap();
        } else {
            assert!(
                chapters[&name] == shown,
                "docs/{name} is not what the code says: DOCS_WRITE=1 cargo test -p testbed --test docs"
            );
        }
    }

    let request: String = sqlx::query_scalar("SELECT id FROM requests ORDER BY id LIMIT 1")
        .fetch_one(grid.rucio.pool())
        .await
        .unwrap();
    let (mut commands, mut configurations) = (0, 0);
    for (name, text) in &chapters {
        for block in blocks(text) {
            let mut info = block.info.split(' ');
            let (language, mark) = (info.next().unwrap_or_default(), info.next());
            let at = format!("docs/{name}, line {}", block.line);
            match (language, mark) {
                ("sh", None) => {
                    run(&grid, &request, &block.text, &at).await;
                    commands += 1;
                }
                ("sh", Some("site" | "tests-run")) => (),
                ("toml", Some(daemon)) => {
                    accepted(&grid, daemon, &block.text, &at).await;
                    configurations += 1;
                }
                (other, _) => {
                    assert!(OTHER_LANGUAGES.contains(&other), "{at}: say what it is: {:?}", block.info);
                }
            }
        }
    }
    for daemon in ["conveyor", "token-exchange"] {
        let file = format!("packaging/kubernetes/{daemon}.yaml");
        let manifest = std::fs::read_to_string(root().join(&file)).unwrap();
        let (_, block) = manifest.split_once(".toml: |\n").unwrap();
        let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        accepted(&grid, daemon, &lines.map(|line| format!("{}\n", line.trim())).collect::<String>(), &file)
            .await;
    }
    let composed = "tests/docker/token-exchange.toml";
    accepted(&grid, "token-exchange", &std::fs::read_to_string(root().join(composed)).unwrap(), composed)
        .await;
    assert!(commands >= 10 && configurations >= 4, "{commands} commands, {configurations} configurations");
    grid.stop();
}

/// Keys that the tables of the other programs' options lead to are there.
#[test]
fn every_key_of_the_tables_is_in_a_reference() {
    let chapters = chapters();
    let keys: BTreeSet<String> = ["reference-conveyor.md", "reference-token-exchange.md"]
        .iter()
        .flat_map(|name| keys(&chapters[*name]))
        .collect();
    assert!(keys.len() > 60, "{keys:?}");
    let mut rows = 0;
    for row in
        chapters["mapping.md"].lines().filter(|line| line.starts_with("| `") || line.starts_with("| …"))
    {
        let ours = row.split(" | ").nth(1).unwrap_or_default();
        for key in ours.split('`').skip(1).step_by(2).map(|key| key.split(' ').next().unwrap_or_default()) {
            if key.contains('.') {
                assert!(keys.contains(key), "docs/mapping.md: there is no {key}");
                rows += 1;
            }
        }
    }
    assert!(rows >= 12, "{rows}");
}

async fn run(grid: &Grid, request: &str, text: &str, at: &str) {
    let mut path = vec![grid.binaries.conveyor.parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", text])
        .current_dir(&grid.folder)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("REQUEST", request)
        .env("FILE_ID", "1")
        .env("ISSUER", grid.issuer.name())
        .env("FTS_URL", grid.fts.url())
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{at}: {text}\n{}: {}", output.status, String::from_utf8_lossy(&said));
}

async fn accepted(grid: &Grid, daemon: &str, text: &str, at: &str) {
    let program = match daemon {
        "conveyor" => &grid.binaries.conveyor,
        "token-exchange" => &grid.binaries.token_exchange,
        _ => return assert!(daemon == "site", "{at}: whose configuration?"),
    };
    let file = grid.folder.join("of-the-book.toml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(program)
        .arg("--config")
        .arg(&file)
        .args(["config", "show"])
        .env("CREDENTIALS_DIRECTORY", &grid.folder)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn docs() -> PathBuf {
    root().join("docs")
}

/// Every Markdown file of the book, by name.
fn chapters() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(docs()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    files
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Links within the sources.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let all = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    all.filter(|link| !link.contains("://")).map(str::to_owned).collect()
}

/// What stands in no code block and no code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    lines.map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("`")).collect::<Vec<_>>().join("\n")
}

/// The ids that headings get, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut all = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        let Some(title) = line.strip_prefix('#').filter(|_| !fenced) else { continue };
        let title = title.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        all.insert(title.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect());
    }
    all
}

struct Block {
    line: usize,
    info: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut all, mut open) = (Vec::new(), None::<Block>);
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => all.push(block),
            (Some(info), None) => {
                open = Some(Block { line: at + 1, info: info.trim().into(), text: String::new() });
            }
            (None, Some(mut block)) => {
                block.text += line;
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => (),
        }
    }
    all
}

/// The keys of a reference, as `section.key`.
fn keys(reference: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut all = BTreeSet::new();
    for line in reference.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.trim_matches(['`', '[', ']', ' ']).to_owned();
            // A table of one's own keys is a key.
            all.insert(section.clone());
        }
        if let Some(key) = line.strip_prefix("- `").and_then(|rest| rest.split('`').next()) {
            all.insert(format!("{section}.{key}"));
        }
    }
    all
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all
}

/// A string literal, from behind its first quote.
fn literal(rest: &str) -> String {
    let (mut text, mut escaped) = (String::new(), false);
    for c in rest.chars() {
        match c {
            '"' if !escaped => break,
            '\\' if !escaped => escaped = true,
            _ => {
                escaped = false;
                text.push(c);
            }
        }
    }
    text
}

/// The pieces of a format string between its arguments.
fn constant(message: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut inside = false;
    for c in message.chars() {
        match c {
            '{' => {
                inside = true;
                pieces.push(String::new());
            }
            '}' => inside = false,
            _ if inside => (),
            _ => pieces.last_mut().unwrap().push(c),
        }
    }
    pieces
}

fn plain(text: &str) -> String {
    text.replace(['`', '\\'], "").split_whitespace().collect::<Vec<_>>().join(" ")
}
