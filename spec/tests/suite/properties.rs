//! What holds for every input: nothing panics, and neither order nor file layout decides anything.

use super::site::{Case, Site};
use proptest::prelude::*;
use spec::Diagnostic;
use spec::diagnostic::{Style, render_all};

const SHORT: &str = include_str!("../valid/short.yaml");
const LONG: &str = include_str!("../valid/long.yaml");

fn load(text: &[u8]) -> Result<spec::Resolved, Vec<Diagnostic>> {
    spec::load([("a/b.yaml", text)], &Site::default())
}

/// Reads, resolves and renders whatever this is. Every place named lies in the text.
fn survives(text: &[u8]) {
    let Err(problems) = load(text) else { return };
    assert!(!problems.is_empty());
    render_all(&problems, Style::Coloured);
    let lines = text.split(|byte| *byte == b'\n').count();
    for problem in problems {
        assert!(problem.place.location.line as usize <= lines, "{problem:?}");
    }
}

/// The documents of a case, without its other files.
fn documents(text: &str) -> Vec<String> {
    let case = Case::new(text);
    let split = |text: &String| text.split("---\n").map(|document| document.replace("...\n", "")).collect::<Vec<_>>();
    case.manifests.iter().flat_map(|(_, text)| split(text)).filter(|text| text.contains("kind:")).collect()
}

/// Words that manifests are made of, so that random texts get past the first line of defence.
fn words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("apiVersion: agent/v1\n".to_owned()),
        Just("kind: Container\n".to_owned()),
        Just("metadata: {name: web}\n".to_owned()),
        Just("spec:\n".to_owned()),
        Just("---\n".to_owned()),
        Just("  image: nginx\n".to_owned()),
        "  (env|ports|volumes|networks|restart|healthcheck|resources|dependsOn|tmpfs|logs|update|capabilities|command|labels): ",
        "[a-z./:0-9{}\\[\\],&*!|>'\"#~-]{1,12}\n?",
        Just("[&a x, *a, {<<: *a}]\n".to_owned()),
        Just("{type: bind, source: ., target: /x}\n".to_owned()),
        "\\PC{0,6}\n?",
    ];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        survives(&bytes);
    }

    #[test]
    fn no_text_like_a_manifest_makes_it_panic(text in words()) {
        survives(text.as_bytes());
    }

    #[test]
    fn no_damage_to_a_good_manifest_makes_it_panic(at in 0usize..3_000, cut in 0usize..6, paste in "\\PC{0,4}") {
        let mut text = LONG.to_owned();
        let floor = |text: &str, mut at: usize| { at = at.min(text.len()); while !text.is_char_boundary(at) { at -= 1; } at };
        let start = floor(&text, at);
        let end = floor(&text, start + cut).max(start);
        text.replace_range(start..end, &paste);
        survives(text.as_bytes());
        let case = Case::new(&text);
        if let Err(problems) = case.load() {
            render_all(&problems, Style::Plain);
        }
    }

    #[test]
    fn neither_order_nor_files_matter(order in Just((0..documents(SHORT).len()).collect::<Vec<_>>()).prop_shuffle(), files in any::<u8>()) {
        let expected = Case::new(SHORT).load().expect("it is valid");
        let documents = documents(SHORT);
        let site = Case::new(SHORT).site;
        let mut layout: Vec<(String, String)> = vec![("one.yaml".to_owned(), String::new()), ("two.yaml".to_owned(), String::new())];
        for (place, index) in order.into_iter().enumerate() {
            layout[usize::from(files >> place & 1)].1.push_str(&format!("---\n{}", documents[index]));
        }
        let loaded = spec::load(layout.iter().map(|(path, text)| (path.as_str(), text.as_bytes())), &site).expect("it is valid");
        prop_assert_eq!(loaded.desired.digest(), expected.desired.digest());
    }

    #[test]
    fn any_text_survives_as_a_variable(text in "[^\u{0}]{0,40}") {
        let mut manifest = serde_json::json!({"apiVersion": "agent/v1", "kind": "Container", "metadata": {"name": "web"}, "spec": {"image": "nginx"}});
        manifest["spec"]["env"] = serde_json::json!({ "A": text });
        let yaml = serde_saphyr::to_string(&manifest).expect("it can be written");
        // JSON leaves some characters bare that YAML wants escaped.
        let bare = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        let json = (!text.contains(bare)).then(|| manifest.to_string());
        for written in [Some(yaml), json].into_iter().flatten() {
            let site = load(written.as_bytes()).unwrap_or_else(|problems| panic!("{written}\n{}", render_all(&problems, Style::Plain)));
            let web = site.desired.containers.values().next().expect("there is one");
            prop_assert_eq!(&web.env["A"], &text);
        }
    }
}

/// An eighth of the largest file, of one line that repeats something: enough to show what is not linear.
fn fill(before: &str, item: impl Fn(usize) -> String, after: &str) -> String {
    let mut text = before.to_owned();
    for n in 0.. {
        let item = item(n);
        if text.len() + item.len() + after.len() > spec::FILE_BYTES_MAX / 8 {
            break;
        }
        text.push_str(&item);
    }
    text + after
}

/// Each of these took minutes or gigabytes with some obvious way to write the code.
#[test]
fn limits_hold_in_little_time() {
    let volume = "apiVersion: agent/v1\nkind: Volume\nmetadata: {name: a}\nspec: {";
    let container = "apiVersion: agent/v1\nkind: Container\nmetadata: {name: a}\nspec: {image: a, ";
    let with = |field: &str| format!("{container}{field}");
    let hostile = [
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        fill("", |_| "---\n".to_owned(), ""),
        fill("a: ", |_| "x".to_owned(), ""),
        fill(volume, |_| "x: y, ".to_owned(), "}"),
        fill(volume, |n| format!("x{n}: y, "), "}"),
        fill(&with("env: {"), |n| format!("x{n}: é, "), "}}"),
        fill(&with("env: ["), |n| format!("x{n}, "), "]}"),
        fill(&with("env: ["), |n| format!("x{n}=1, "), "]}"),
        fill(&with("ports: ["), |_| "\"1-65535:1-65535\", ".to_owned(), "]}"),
        fill(&with("dependsOn: ["), |n| format!("x{n}, "), "]}"),
        fill(&with("dependsOn: {"), |n| format!("x{n}: healthy, "), "}}"),
        fill(&with("volumes: ["), |n| format!("\"/:/x{n}\", "), "]}"),
        fill(&with("capabilities: {drop: [CHOWN], add: ["), |_| "CHOWN, ".to_owned(), "]}}"),
        fill(
            "",
            |n| format!("---\napiVersion: agent/v1\nkind: Container\nmetadata: {{name: x{n}}}\nspec: {{image: y{n}, ports: [\"1:1\"]}}\n"),
            "",
        ),
        format!("a: &a {{{}}}\nb:\n{}", (0..500).map(|n| format!("k{n}: 1, ")).collect::<String>(), "  - {<<: *a}\n".repeat(1_000)),
    ];
    for text in hostile {
        survives(text.as_bytes());
    }
}

#[test]
fn a_file_that_is_not_text_is_named() {
    let problems = load(b"kind: Volume\nname: \xff\n").expect_err("it is not UTF-8");
    let expected = "\
error: the file is not UTF-8 text from here on
 --> a/b.yaml:2:7
  |
2 | name: 
  |       ^
  |
  = help: save it as UTF-8
";
    assert_eq!(render_all(&problems, Style::Plain), expected);
    let problems = load(&vec![b'a'; spec::FILE_BYTES_MAX + 1]).expect_err("it is too large");
    assert_eq!(problems[0].message, "the file has 4194305 bytes, a manifest at most 4194304");
}
