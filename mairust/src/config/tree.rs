//! YAML as a tree that knows the place of every key and value.
//!
//! Read from parser events rather than through serde, which stops at the first problem. Anchors,
//! aliases, tags and several documents are refused: no configuration of this size needs them.

use std::path::Path;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span};

use super::problem::{Place, Problem};

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Nothing is written behind the key, or `null`: the default holds.
    Null,
    /// The text without its quotes; `plain` if it has none.
    Scalar {
        text: String,
        plain: bool,
    },
}

/// A key of a map with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// A map without keys.
    pub(super) fn empty_map(place: Place) -> Self {
        Self { place, value: Value::Map(Vec::new()) }
    }

    /// A text as YAML reads it without quotes: `null`, `~` and nothing are [`Value::Null`].
    pub(super) fn plain(place: Place, text: &str) -> Self {
        let value = match text {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            _ => Value::Scalar { text: text.to_owned(), plain: true },
        };
        Self { place, value }
    }
}

/// The key `name` in the map at `parent`.
pub(super) fn child_path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// Reads a text. What could be read comes back beside the problems, so that the rest can be
/// checked too.
pub(super) fn parse(text: &str, file: &Path) -> (Node, Vec<Problem>) {
    let options = granit_parser::options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { events, file, problems: Vec::new() };
    let start = Place::File { file: file.to_owned(), line: 1, column: 1 };
    let root = match reader.document() {
        Ok(Some(Node { value: Value::Null, .. }) | None) => Node::empty_map(start),
        Ok(Some(root)) => root,
        Err(problem) => {
            reader.problems.push(*problem);
            Node::empty_map(start)
        }
    };
    (root, reader.problems)
}

/// Maps and lists in each other; the configuration has four.
const MAX_DEPTH: usize = 16;

struct Reader<'a, E> {
    events: E,
    file: &'a Path,
    problems: Vec<Problem>,
}

type Parsed<'a> = Result<(Event<'a>, Span), granit_parser::ScanError>;

impl<'a, E: Iterator<Item = Parsed<'a>>> Reader<'_, E> {
    /// The first document; `None` if there is none.
    fn document(&mut self) -> Result<Option<Node>, Box<Problem>> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    let place = self.place(&span);
                    return Err(Box::new(Problem::new(&place, "", "a second document; write one only")));
                }
                event => root = Some(self.node(event, &span, "", 0)?),
            }
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'a>, span: &Span, path: &str, depth: usize) -> Result<Node, Box<Problem>> {
        let place = self.place(span);
        if depth > MAX_DEPTH {
            return Err(Box::new(Problem::new(&place, path, "too many levels")));
        }
        self.refuse_extras(&event, &place, path);
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => return Ok(Node::plain(place, &text)),
            Event::Scalar(text, ..) => Value::Scalar { text: text.into_owned(), plain: false },
            Event::SequenceStart(..) => Value::List(self.list(path, depth)?),
            Event::MappingStart(..) => Value::Map(self.map(path, depth)?),
            _ => Value::Null,
        };
        Ok(Node { place, value })
    }

    fn list(&mut self, path: &str, depth: usize) -> Result<Vec<Node>, Box<Problem>> {
        let mut nodes = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            let path = format!("{path}[{}]", nodes.len());
            nodes.push(self.node(event, &span, &path, depth + 1)?);
        }
        Ok(nodes)
    }

    fn map(&mut self, path: &str, depth: usize) -> Result<Vec<Entry>, Box<Problem>> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let place = self.place(&span);
            let key = match &event {
                Event::Scalar(text, ..) => Some(text.to_string()),
                _ => None,
            };
            // The key is read as a node too, so that its events are gone whatever it is.
            self.node(event, &span, path, depth + 1)?;
            let Some((event, span)) = self.next()? else { break };
            let Some(key) = key else {
                self.node(event, &span, path, depth + 1)?;
                self.problems.push(Problem::new(&place, path, "a key must be a word"));
                continue;
            };
            let path = child_path(path, &key);
            let value = self.node(event, &span, &path, depth + 1)?;
            match entries.iter().find(|entry| entry.key == key) {
                Some(Entry { place: Place::File { line, column, .. }, .. }) => {
                    let message = format!("this key stands in line {line}, column {column} already");
                    self.problems.push(Problem::new(&place, &path, message).with_advice("remove one of them"));
                }
                _ => entries.push(Entry { key, place, value }),
            }
        }
        Ok(entries)
    }

    fn refuse_extras(&mut self, event: &Event<'_>, place: &Place, path: &str) {
        let (anchor, tagged) = match event {
            Event::Alias(_) => {
                let problem = Problem::new(place, path, "aliases are not supported");
                self.problems.push(problem.with_advice("write the value itself; quote a text that begins with *"));
                return;
            }
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag) => (*anchor != 0, tag.is_some()),
            _ => return,
        };
        if anchor {
            let problem = Problem::new(place, path, "anchors are not supported");
            self.problems.push(problem.with_advice("quote a text that begins with &"));
        }
        if tagged {
            let problem = Problem::new(place, path, "tags are not supported");
            self.problems.push(problem.with_advice("quote a text that begins with !"));
        }
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Box<Problem>> {
        let event = self.events.next().transpose();
        event.map_err(|error| {
            let place = self.at(error.marker());
            Box::new(Problem::new(&place, "", format!("this is not YAML: {}", error.kind())))
        })
    }

    fn place(&self, span: &Span) -> Place {
        self.at(&span.start)
    }

    fn at(&self, marker: &granit_parser::Marker) -> Place {
        Place::File { file: self.file.to_owned(), line: marker.line(), column: marker.col() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(text, Path::new("f")).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let (root, problems) = parse("# a\na:\n  - b: 'ü' # c\n    cü:  d\n", Path::new("f"));
        assert_eq!(problems, []);
        let Value::Map(entries) = &root.value else { panic!("{root:?}") };
        assert_eq!(entries[0].place.to_string(), "f:2:1");
        let Value::List(items) = &entries[0].value.value else { panic!("{root:?}") };
        let Value::Map(entries) = &items[0].value else { panic!("{root:?}") };
        assert_eq!(entries[1].place.to_string(), "f:4:5");
        assert_eq!(entries[1].value.place.to_string(), "f:4:10");
        assert_eq!(entries[0].value.value, Value::Scalar { text: "ü".to_owned(), plain: false });
    }

    #[test]
    fn nothing_is_an_empty_map() {
        for text in ["", "# only a comment\n", "---\n", "~\n"] {
            let (root, problems) = parse(text, Path::new("f"));
            assert_eq!((root.value, problems), (Value::Map(Vec::new()), Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn duplicates_and_extras_are_problems_but_not_the_end() {
        assert_eq!(
            problems("a: 1\nb: {c: 1, c: 2}\na: &x 3\nd: *x\ne: !t 1\n[f]: 1\n"),
            [
                "f:2:11: b.c: this key stands in line 2, column 5 already; remove one of them",
                "f:3:7: a: anchors are not supported; quote a text that begins with &",
                "f:3:1: a: this key stands in line 1, column 1 already; remove one of them",
                "f:4:4: d: aliases are not supported; write the value itself; quote a text that begins with *",
                "f:5:7: e: tags are not supported; quote a text that begins with !",
                "f:6:1: a key must be a word",
            ]
        );
    }

    #[test]
    fn syntax_errors_have_a_place() {
        for (text, place) in
            [("a: [1\nb: 2\n", "f:2:"), ("a: 'b\n", "f:"), ("a: b: c\n", "f:1:"), ("a: 1\n b: 2\n", "f:2:")]
        {
            let problems = problems(text);
            assert_eq!(problems.len(), 1, "{text:?} {problems:?}");
            assert!(problems[0].starts_with(place) && problems[0].contains("not YAML"), "{problems:?}");
        }
        assert_eq!(problems("a: 1\n---\nb: 2\n"), ["f:3:1: a second document; write one only"]);
        assert_eq!(problems(&"[".repeat(100)).len(), 1);
    }
}
