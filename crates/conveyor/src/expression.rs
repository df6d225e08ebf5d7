//! RSE expressions, in Rucio's grammar and with Rucio's meaning (`rse_expression_parser` of 41.5.1, observed).
//!
//! A primitive is an attribute (`tier=1`, `tier<2`, `tier>2`), a name or a key alone (an attribute of that key is true, which
//! every RSE has of its own name), or `*`, which is every RSE. They are joined by `|` (union), `&` (intersection) and `\`
//! (without), from left to right with no precedence, and grouped by brackets. No blanks. A key that is a column of Rucio's table
//! of RSEs (`deterministic`, `country_name`, …) asks for the column and not for an attribute.
//!
//! Whether an RSE belongs to an expression depends on that RSE alone, so an expression is kept as a postfix program of tests.

use std::fmt;
use std::str::FromStr;

use crate::topology::Rse;

/// An RSE expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    program: Vec<Step>,
}

/// Why a text is no RSE expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Brackets do not match.
    #[error("brackets do not match")]
    Brackets,
    /// At this character (from 0) something else was expected.
    #[error("not an RSE expression from character {0} on")]
    At(usize),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Test(Test),
    Join(Operator),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Or,
    And,
    Without,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    All,
    /// The key alone.
    True(String),
    Equal(String, String),
    Less(String, String),
    Greater(String, String),
}

impl Expression {
    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `rse` belongs to it. Rucio refuses an expression that no RSE at all belongs to.
    pub fn allows(&self, rse: &Rse) -> bool {
        let mut stack = Vec::new();
        for step in &self.program {
            let value = match step {
                Step::Test(test) => test.allows(rse),
                Step::Join(operator) => {
                    let (right, left) = (stack.pop().unwrap_or(false), stack.pop().unwrap_or(false));
                    match operator {
                        Operator::Or => left || right,
                        Operator::And => left && right,
                        Operator::Without => left && !right,
                    }
                }
            };
            stack.push(value);
        }
        stack.pop().unwrap_or(false)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Expression {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Ok(Self { text: text.to_owned(), program: Reader { text, at: 0 }.program()? })
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn program(mut self) -> Result<Vec<Step>, Malformed> {
        let mut program = Vec::new();
        // One entry an open bracket, the outermost first: the operator that waits for its right side.
        let mut waiting = vec![None];
        loop {
            while self.eat('(') {
                waiting.push(None);
            }
            program.push(Step::Test(self.test()?));
            join(&mut program, &mut waiting);
            while self.eat(')') {
                if waiting.len() == 1 {
                    return Err(Malformed::Brackets);
                }
                waiting.pop();
                join(&mut program, &mut waiting);
            }
            let operator = match self.rest().chars().next() {
                None if waiting.len() == 1 => return Ok(program),
                None => return Err(Malformed::Brackets),
                Some('|') => Operator::Or,
                Some('&') => Operator::And,
                Some('\\') => Operator::Without,
                Some(_) => return Err(self.malformed()),
            };
            self.at += 1;
            if let Some(last) = waiting.last_mut() {
                *last = Some(operator);
            }
        }
    }

    /// A primitive: the longest run of its characters, as Rucio's patterns take it.
    fn test(&mut self) -> Result<Test, Malformed> {
        if self.eat('*') {
            return Ok(Test::All);
        }
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let key = self.run(|c| word(c) || c == '.');
        let make: fn(String, String) -> Test = match self.rest()[key.len()..].chars().next() {
            Some('=') => Test::Equal,
            Some('<') => Test::Less,
            Some('>') => Test::Greater,
            _ => return self.name(),
        };
        let before = self.at;
        self.at += key.len() + 1;
        let value = self.run(word);
        if key.is_empty() || value.is_empty() {
            self.at = before;
            return Err(self.malformed());
        }
        self.at += value.len();
        Ok(make(key, value))
    }

    /// Letters and digits, with single `_` or `-` between them.
    fn name(&mut self) -> Result<Test, Malformed> {
        let name = self.run(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if name.is_empty() || name.split(['_', '-']).any(str::is_empty) {
            return Err(self.malformed());
        }
        self.at += name.len();
        Ok(Test::True(name))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn run(&self, belongs: impl Fn(char) -> bool) -> String {
        self.rest().chars().take_while(|c| belongs(*c)).collect()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn malformed(&self) -> Malformed {
        Malformed::At(self.text[..self.at].chars().count())
    }
}

fn join(program: &mut Vec<Step>, waiting: &mut [Option<Operator>]) {
    if let Some(operator) = waiting.last_mut().and_then(Option::take) {
        program.push(Step::Join(operator));
    }
}

impl Test {
    fn allows(&self, rse: &Rse) -> bool {
        match self {
            Self::All => true,
            Self::True(key) => match column(rse, key) {
                Some(column) => column == Some(Column::Truth(true)),
                None => rse.attribute(key) == Some("true"),
            },
            Self::Equal(key, value) => match column(rse, key) {
                Some(Some(Column::Truth(truth))) => spoken(value) == Some(truth),
                Some(Some(Column::Text(text))) => text == value,
                Some(None) => false,
                None => rse.attribute(key) == Some(folded(value).as_str()),
            },
            Self::Less(key, value) => compare(rse, key, value, |a, b| a < b),
            Self::Greater(key, value) => compare(rse, key, value, |a, b| a > b),
        }
    }
}

/// Truths are kept in lower case.
fn folded(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        truth @ ("true" | "false") => truth.to_owned(),
        _ => value.to_owned(),
    }
}

fn spoken(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Comparisons are of numbers, and of attributes only; what is no number is never smaller or larger.
fn compare(rse: &Rse, key: &str, value: &str, holds: impl Fn(f64, f64) -> bool) -> bool {
    let attribute = match rse.attribute(key) {
        Some(text) if text.eq_ignore_ascii_case("true") => Some(1.0),
        Some(text) if text.eq_ignore_ascii_case("false") => Some(0.0),
        Some(text) => number(text),
        None => None,
    };
    attribute.zip(number(value)).is_some_and(|(a, b)| holds(a, b))
}

/// A number as Python's `float` reads it: blanks around it, and single `_` between digits.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let lone = |at: usize| bytes[at] != b'_' || (digit(at.checked_sub(1)) && digit(at.checked_add(1)));
    (0..bytes.len()).all(lone).then(|| text.replace('_', "").parse().ok())?
}

#[derive(PartialEq)]
enum Column<'a> {
    Truth(bool),
    Text(&'a str),
}

/// A column of Rucio's table: not one at all, one that is NULL or can't be asked for, or its value.
fn column<'a>(rse: &'a Rse, key: &str) -> Option<Option<Column<'a>>> {
    use Column::{Text, Truth};
    Some(match key {
        "rse" => Some(Text(&rse.name)),
        "id" => Some(Text(&rse.id.0)),
        "rse_type" => Some(Text(if rse.tape { "TAPE" } else { "DISK" })),
        "deterministic" => Some(Truth(rse.deterministic)),
        "staging_area" => Some(Truth(rse.staging_area)),
        "availability_read" => Some(Truth(rse.availability_read)),
        "volatile" | "availability_write" | "availability_delete" => {
            Some(Truth(rse.columns.get(key).is_some_and(|value| value == "true")))
        }
        "vo" | "city" | "region_code" | "country_name" | "continent" | "time_zone" | "ISP" | "ASN"
        | "qos_class" => rse.columns.get(key).map(|value| Text(value)),
        "availability" | "longitude" | "latitude" | "deleted" | "deleted_at" | "created_at"
        | "updated_at" | "usage" => None,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::RseId;

    fn rse(attributes: &[(&str, &str)]) -> Rse {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Rse {
            id: RseId("0".repeat(32)),
            name: "A".into(),
            tape: false,
            deterministic: true,
            staging_area: false,
            availability_read: true,
            attributes: own(attributes),
            protocols: vec![],
            columns: own(&[("country_name", "Chile"), ("volatile", "true")]),
        }
    }

    #[test]
    fn expressions_mean_what_they_mean_to_rucio() {
        let a = rse(&[("A", "true"), ("tier", "2"), ("cloud", "DE"), ("off", "false"), ("n", " 1_0.5 ")]);
        for (text, allowed) in [
            ("A", true),
            ("B", false),
            ("*", true),
            ("tier", false),
            ("tier=2", true),
            ("tier<2", false),
            ("tier<3", true),
            ("tier>1", true),
            ("n>10", true),
            ("A>0", true),
            ("off<1", true),
            ("cloud<1", false),
            ("off=FALSE", true),
            ("A|B&B", false),
            ("A|(B&B)", true),
            ("*\\A", false),
            ("((A)\\(B|off))&cloud=DE", true),
            ("country_name=Chile", true),
            ("country_name", false),
            ("volatile", true),
            ("deterministic=0", false),
            ("rse=A", true),
            ("rse_type=DISK", true),
            ("city=x", false),
        ] {
            assert_eq!(text.parse::<Expression>().map(|e| e.allows(&a)), Ok(allowed), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        use Malformed::{At, Brackets};
        for (text, why) in [
            ("", At(0)),
            ("A|", At(2)),
            ("|A", At(0)),
            ("A B", At(1)),
            ("A*", At(1)),
            ("A_", At(0)),
            ("A.b", At(1)),
            ("A=b.c", At(3)),
            ("A=", At(0)),
            ("A|b=c=d", At(5)),
            ("(A", Brackets),
            ("A)", Brackets),
            ("(A)(B)", At(3)),
            ("é", At(0)),
        ] {
            assert_eq!(text.parse::<Expression>(), Err(why), "{text}");
        }
        let deep = "(".repeat(100_000) + "A" + &")".repeat(100_000);
        assert!(deep.parse::<Expression>().unwrap().allows(&rse(&[("A", "true")])));
    }
}
