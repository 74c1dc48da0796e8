//! `--format` as docker has it, for what scripts use of it: `{{.Name}}`, `{{json .Config}}`, `json`, and `table …` with headings.
//! Pure. Go's templates are more; for that there is `--json` and jq.

use super::render::Render;
use serde::Serialize;
use serde_json::Value;

/// How rows or documents are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// One object a line.
    Json,
    /// The usual table.
    Table,
    /// A table of these columns, split at tabs.
    Columns(Vec<Template>),
    /// A line each.
    Lines(Template),
}

/// A text with fields in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `{{.A.B}}`; without names the whole.
    Field(Vec<String>),
    /// `{{json .A.B}}`.
    Json(Vec<String>),
}

impl Format {
    /// For clap.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.trim() {
            "json" => Self::Json,
            "table" => Self::Table,
            text => match text.strip_prefix("table ") {
                Some(columns) => Self::Columns(unescape(columns).split('\t').map(Template::parse).collect::<Result<_, _>>()?),
                None => Self::Lines(Template::parse(&unescape(text))?),
            },
        })
    }

    /// Prints rows; `usual` prints them as a table without a format, and as JSON if that is asked for.
    pub(super) fn print<T: Serialize>(format: Option<&Self>, render: Render, rows: &[T], usual: impl Fn(Render)) -> anyhow::Result<()> {
        let Some(format) = format else {
            usual(render);
            return Ok(());
        };
        let values = || rows.iter().map(|row| serde_json::to_value(row).expect("our own values have text keys and finite numbers"));
        match format {
            Self::Json => usual(Render { json: true }),
            Self::Table => usual(Render { json: false }),
            Self::Lines(template) => {
                for value in values() {
                    render.line(template.fill(&value).map_err(anyhow::Error::msg)?);
                }
            }
            Self::Columns(columns) => {
                let headings: Vec<String> = columns.iter().map(Template::heading).collect();
                let cells = |value: Value| columns.iter().map(|column| column.fill(&value)).collect::<Result<Vec<_>, _>>();
                let rows = values().map(cells).collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)?;
                Render { json: false }.rows(&headings.iter().map(String::as_str).collect::<Vec<_>>(), &rows, Clone::clone);
            }
        }
        Ok(())
    }
}

impl Template {
    /// Errors say what is understood.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (inside, after) = behind.split_once("}}").ok_or_else(|| format!("{text:?} has {{{{ without }}}}"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(part(inside.trim())?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text for a value. Errors name a field that it does not have, and those it has.
    pub(super) fn fill(&self, value: &Value) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Json(path) => filled.push_str(&find(value, path)?.to_string()),
                Part::Field(path) => filled.push_str(&plain(find(value, path)?)),
            }
        }
        Ok(filled)
    }

    /// What stands above a column: the names of its fields.
    fn heading(&self) -> String {
        let names = self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field(path) | Part::Json(path) => path.last().cloned(),
        });
        names.collect::<Vec<_>>().join("/")
    }
}

fn part(inside: &str) -> Result<Part, String> {
    let (is_json, path) = inside.strip_prefix("json ").map_or((false, inside), |path| (true, path.trim()));
    let names = path.strip_prefix('.').map(|path| path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>());
    let is_name = |name: &String| name.chars().all(|it| it.is_alphanumeric() || it == '_' || it == '-');
    match names.filter(|names| names.iter().all(is_name)) {
        Some(names) if is_json => Ok(Part::Json(names)),
        Some(names) => Ok(Part::Field(names)),
        None => {
            Err(format!("{{{{{inside}}}}} is not understood here: write {{{{.Field}}}} or {{{{json .Field}}}}; --json and jq do the rest"))
        }
    }
}

/// `\t` and `\n` as they are typed in a shell.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// A field by its path. Letters count without their case, and docker's plurals are taken: `.Names`, `.ID`.
fn find<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value, String> {
    path.iter().try_fold(value, |value, name| {
        let fields = value.as_object().ok_or_else(|| format!("there is no .{name}: {value} has no fields"))?;
        let is = |wanted: &str| fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
        is(name).or_else(|| is(name.strip_suffix(['s', 'S'])?)).ok_or_else(|| {
            let known: Vec<String> = fields.keys().map(|field| format!(".{field}")).collect();
            format!("there is no .{name}; there are {}", known.join(", "))
        })
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_filled_in() {
        let value = json!({"id": "web@1", "name": "web", "ports": ["80", "443"], "config": {"env": {"A": "1"}, "none": null}});
        let filled = |template: &str| Template::parse(template).and_then(|template| template.fill(&value));
        for (template, text) in [
            ("{{.Names}} ({{ .ID }})", "web (web@1)"),
            ("{{.Ports}}", "80, 443"),
            ("{{json .ports}}", r#"["80","443"]"#),
            ("{{.Config.Env.A}}{{.config.none}}", "1"),
            ("{{json .}}", &value.to_string()),
            ("plain", "plain"),
        ] {
            assert_eq!(filled(template).as_deref(), Ok(text), "{template}");
        }
        assert_eq!(filled("{{.Nam}}").unwrap_err(), "there is no .Nam; there are .config, .id, .name, .ports");
        assert!(filled("{{.name.x}}").unwrap_err().contains("no fields"));
        for bad in ["{{.a", "{{range .a}}", "{{index .a 0}}", "{{.a | upper}}", "{{}}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn formats_are_dockers() {
        assert_eq!(Format::parse("json"), Ok(Format::Json));
        assert_eq!(Format::parse("table"), Ok(Format::Table));
        let columns = ["{{.ID}}", "{{.Name}}"].map(|column| Template::parse(column).unwrap()).to_vec();
        assert_eq!(columns[1].heading(), "Name");
        assert_eq!(Format::parse("table {{.ID}}\\t{{.Name}}"), Ok(Format::Columns(columns)));
        assert_eq!(Format::parse("{{.ID}}\\n"), Ok(Format::Lines(Template::parse("{{.ID}}\n").unwrap())));
    }
}
