//! The status page: what a person wants to see first, on one page without anything from elsewhere. Text is escaped where it is put in.

use std::fmt::Write as _;

use crate::metrics::plain;
use crate::vitals::Check;
use crate::watch::{Watch, is_ready};

const STYLE: &str = include_str!("page.css");

/// A table of the page.
#[derive(Clone, Debug)]
pub struct Section {
    /// What it is about.
    pub title: &'static str,
    /// What its columns are.
    pub head: &'static [&'static str],
    /// Its rows, with a cell for each column.
    pub rows: Vec<Vec<Cell>>,
    /// What is said when there are none.
    pub none: &'static str,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    class: &'static str,
}

impl Cell {
    /// Words.
    pub fn text(text: impl ToString) -> Self {
        Self { text: text.to_string(), class: "" }
    }

    /// Words for something that is well.
    pub fn good(text: impl ToString) -> Self {
        Self { text: text.to_string(), class: "good" }
    }

    /// Words for something that is not.
    pub fn bad(text: impl ToString) -> Self {
        Self { text: text.to_string(), class: "bad" }
    }
}

/// A time span for a person.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The page.
pub(crate) async fn page(watch: &Watch) -> String {
    watch.look().await;
    let (live, ready) = (watch.liveness(), watch.readiness());
    let sections = [checks(&live, &ready), issuers(watch)]
        .into_iter()
        .chain(watch.own.sections())
        .chain([tokens(watch)]);
    let state = match (live.iter().all(|check| check.ok), is_ready(&ready)) {
        (false, _) => Cell::bad("stuck"),
        (true, false) => Cell::bad("not ready"),
        (true, true) => Cell::good("ready"),
    };
    let mut html = String::with_capacity(8192);
    let (program, version) = (escaped(watch.program), escaped(watch.version));
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{program}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <meta http-equiv=\"refresh\" content=\"30\"><link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head>\n<body><header>\
         <h1>{program} <small>{version}</small> <span class=\"{}\">{}</span></h1><p>{}</p></header>\n<main>",
        state.class,
        escaped(&state.text),
        escaped(&watch.own.line()),
    );
    for section in sections {
        write_section(&mut html, &section);
    }
    html.push_str("</main>\n<footer>Read only. Numbers over time: <a href=\"/metrics\">/metrics</a>.</footer></body></html>\n");
    html
}

fn write_section(html: &mut String, section: &Section) {
    let _ = write!(html, "\n<section><h2>{}</h2>", escaped(section.title));
    if section.rows.is_empty() {
        let _ = write!(html, "<p class=\"none\">{}</p></section>", escaped(section.none));
        return;
    }
    html.push_str("<table><thead><tr>");
    for name in section.head {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escaped(name));
    }
    html.push_str("</tr></thead><tbody>");
    for row in &section.rows {
        html.push_str("<tr>");
        for (name, cell) in section.head.iter().zip(row) {
            let (name, text) = (escaped(name), escaped(&cell.text));
            let _ =
                write!(html, "<td data-name=\"{name}\" class=\"{}\"><span>{text}</span></td>", cell.class);
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></section>");
}

/// Nothing of a text is taken for HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            sign if sign.is_control() => safe.push(' '),
            sign => safe.push(sign),
        }
    }
    safe
}

fn checks(live: &[Check], ready: &[Check]) -> Section {
    let row = |check: &Check| {
        let state = if check.ok { Cell::good("well") } else { Cell::bad("not well") };
        vec![Cell::text(&check.name), state, Cell::text(&check.why)]
    };
    Section {
        title: "Health",
        head: &["what", "state", "why"],
        rows: ready.iter().chain(live).map(row).collect(),
        none: "nothing to tell",
    }
}

fn issuers(watch: &Watch) -> Section {
    let row = |(issuer, status): (String, crate::metrics::IssuerStatus)| {
        let guard = status.guard;
        let state = match guard.open_for {
            Some(wait) => Cell::bad(format!("left alone for {}", span(wait.as_secs()))),
            None => Cell::good("asked"),
        };
        let (calls, failed) = status.calls_and_failures();
        vec![
            Cell::text(issuer),
            state,
            Cell::text(format!("{calls}, {failed} of them without a token")),
            Cell::text(format!("{} of {}", guard.in_flight, guard.max_in_flight)),
            Cell::text(format!("{:.0} %", guard.budget_used * 100.0)),
        ]
    };
    Section {
        title: "Issuers",
        head: &["issuer", "state", "calls", "on their way", "budget used"],
        rows: watch.issuers.each().into_iter().map(row).collect(),
        none: "no issuer is asked",
    }
}

/// Most audiences that are shown.
const MOST: usize = 100;

fn tokens(watch: &Watch) -> Section {
    let now = watch.issuers.now();
    let mut held = watch.issuers.holdings();
    held.sort_by_key(|held| held.last_end);
    let row = |held: &token_core::Holding| {
        let left = now.until(held.last_end).as_secs();
        let life = if left < 300 { Cell::bad(span(left)) } else { Cell::text(span(left)) };
        vec![Cell::text(&held.audience), life, Cell::text(held.tokens), Cell::text(plain(&held.issuer))]
    };
    Section {
        title: "Tokens in memory, by remaining life",
        head: &["audience", "lives another", "tokens", "issuer"],
        rows: held.iter().take(MOST).map(row).collect(),
        none: "no token is kept now",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_becomes_html() {
        let mut html = String::new();
        let cell = Cell::bad("<script>alert(1)</script> \" ' &\u{7}");
        write_section(
            &mut html,
            &Section { title: "a<b", head: &["x\"y"], rows: vec![vec![cell]], none: "" },
        );
        assert!(!html.contains("<script") && !html.contains("x\"y") && !html.contains('\u{7}'), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; &quot; &#39; &amp; <"), "{html}");
        assert!(
            html.contains("<h2>a&lt;b</h2>") && html.contains("data-name=\"x&quot;y\" class=\"bad\""),
            "{html}"
        );
    }
}
