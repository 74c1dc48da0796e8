//! What the words of a Dockerfile come to, as tables.

use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "A" => "hello",
        "PWD" => "/home",
        "KOREAN" => "한국어",
        "EMPTY" => "",
        "LIST" => "one two",
        "URL" => "https://example.org/a/b.tar.gz",
        "QUOTED" => "a\"b",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn one_word_table() {
    let cases = [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\"ll\"o", "hello"),
        ("he\\llo", "hello"),
        ("he\\'llo", "he'llo"),
        ("he\\\\llo", "he\\llo"),
        ("hello\\", "hello"),
        ("\"he\\llo\"", "he\\llo"),
        ("\"he\\\"llo\"", "he\"llo"),
        ("'he\\llo'", "he\\llo"),
        ("'he$PWD'", "he$PWD"),
        ("\"he$PWD\"", "he/home"),
        ("\"he\\$PWD\"", "he$PWD"),
        ("he\\$PWD", "he$PWD"),
        ("he\\\\$PWD", "he\\/home"),
        ("he${PWD}x", "he/homex"),
        ("he$PWDx", "he"),
        ("$", "$"),
        ("he$", "he$"),
        ("he$.", "he$."),
        ("he$1x", "hex"),
        ("he$001aaa", "heaaa"),
        ("he$@xx", "hexx"),
        ("he$$xx", "hexx"),
        ("he${1}x", "hex"),
        ("$KOREAN", "한국어"),
        ("안녕\\$KOREAN", "안녕$KOREAN"),
        ("${UNSET-d}", "d"),
        ("${UNSET:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${EMPTY:-d}", "d"),
        ("${UNSET:-}", ""),
        ("${A:+set}", "set"),
        ("${A+set}", "set"),
        ("${EMPTY+set}", "set"),
        ("${EMPTY:+set}", ""),
        ("${UNSET+set}", ""),
        ("${UNSET:-${A}}", "hello"),
        ("${UNSET:-$UNSET2$A}", "hello"),
        ("${UNSET:-\"a b\"}", "a b"),
        ("${UNSET:-a\\}b}", "a}b"),
        ("${A:?no}", "hello"),
        ("${A?no}", "hello"),
        ("${EMPTY?no}", ""),
        ("${A#he}", "llo"),
        ("${A#*l}", "lo"),
        ("${A##*l}", "o"),
        ("${A%l*}", "hel"),
        ("${A%%l*}", "he"),
        ("${A%??}", "hel"),
        ("${A#x}", "hello"),
        ("${URL##*/}", "b.tar.gz"),
        ("${URL%/*}", "https://example.org/a"),
        ("${URL%%.*}", "https://example"),
        ("${A/l/L}", "heLlo"),
        ("${A//l/L}", "heLLo"),
        ("${A//l*/-}", "he-"),
        ("${URL//\\//_}", "https:__example.org_a_b.tar.gz"),
        ("${A/x/y}", "hello"),
        ("${A//l/}", "heo"),
        ("", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(Lexer::new('\\').word(text, &lookup).as_deref(), Ok(expected), "{text}");
    }
}

/// What BuildKit's table of single words pins, in our words; twice, for a variable's value and the text around it may be of any script.
#[test]
fn quotes_escapes_and_braces_table() {
    let cases = [
        ("{}", Some("{}")),
        ("{}'a'{}", Some("{}a{}")),
        ("{}'a", None),
        ("{}\\'a", Some("{}'a")),
        ("{}\\\\'a", None),
        ("{}\\ta", Some("{}ta")),
        ("\"{}\\ta\"", Some("{}\\ta")),
        ("\"{}\\\\ta\"", Some("{}\\ta")),
        ("'{}\\ta'", Some("{}\\ta")),
        ("{}\\", Some("{}")),
        ("{}\\\\", Some("{}\\")),
        ("\"{}", None),
        ("\"{}\\\"", None),
        ("\"{}'a\"", Some("{}'a")),
        ("'{}\\'", Some("{}\\")),
        ("'{}\\\\a'", Some("{}\\\\a")),
        ("\"''\"", Some("''")),
        ("'\"{}\"'", Some("\"{}\"")),
        ("$.{}", Some("$.{}")),
        ("{}$1", Some("{}")),
        ("{}$1-", Some("{}-")),
        ("{}$pwd.", Some("{}.")),
        ("{}$PWD", Some("{}/home")),
        ("{}\\$PWD", Some("{}$PWD")),
        ("{}\\\\$PWD", Some("{}\\/home")),
        ("\"{}\\$PWD\"", Some("{}$PWD")),
        ("\"{}\\\\$PWD\"", Some("{}\\/home")),
        ("'{}\\$PWD'", Some("{}\\$PWD")),
        ("'{}${UNSET}'", Some("{}${UNSET}")),
        ("\"{}'$PWD'\"", Some("{}'/home'")),
        ("{}\\${}", Some("{}${}")),
        ("{}${}", None),
        ("{}${}a", None),
        ("{}${UNSET}", Some("{}")),
        ("{}${.}", None),
        ("{}${UNSET:-0}a", Some("{}0a")),
        ("{}${PWD:-0}a", Some("{}/homea")),
        ("{}${UNSET:-$PWD}", Some("{}/home")),
        ("{}${UNSET:-${PWD:-b}}", Some("{}/home")),
        ("{}${UNSET:-${UNSET2:-b}}", Some("{}b")),
        ("{}${UNSET:b}", None),
        ("{}${UNSET:+${PWD}}a", Some("{}a")),
        ("{}${PWD:+${UNSET}}a", Some("{}a")),
        ("{}${PWD:+${A}}a", Some("{}helloa")),
        ("{}${PWD:+0}a", Some("{}0a")),
        ("{}${PWD", None),
        ("{}${PWD:=0}", None),
        ("{}${PWD=0}", None),
        ("{}${PWD:+${PWD}:}a", Some("{}/home:a")),
        ("{}${UNSET:-\\$PWD:}a", Some("{}$PWD:a")),
        ("{}${UNSET:-\\${PWD}z}a", Some("{}${PWDz}a")),
        ("{}${{UNSET}", None),
        ("{}${UNSET}}", Some("{}}")),
        ("{}${{UNSET:-b}", None),
        ("{}${UNSET:-b}}", Some("{}b}")),
        ("{}${UNSET:-b ${c}", None),
        ("{}${UNSET:-b {c}", Some("{}b {c")),
        ("{}${:}", None),
        ("{}${:-b}", None),
        ("{}${:+b}", None),
        ("{}${UNSET=:b}", None),
    ];
    for around in ["plain", "안녕하세요"] {
        for (text, expected) in cases {
            // `{}` alone is a place to fill; behind a dollar it is what is tested.
            let fill = |text: &str| text.replace("${}", "\0").replace("{}", around).replace('\0', "${}");
            let found = Lexer::new('\\').word(&fill(text), &lookup).ok();
            assert_eq!(found, expected.map(fill), "{text} with {around}");
        }
    }
}

/// `*` and `?` in `#`, `%` and `/`.
#[test]
fn patterns_table() {
    let value = |name: &str| match name {
        "SIGNS" => Some("()[]{}^$.*?|\\x".to_owned()),
        "STARS" => Some("xx**".to_owned()),
        "MORE" => Some("a***yy*".to_owned()),
        "MARKS" => Some("???y".to_owned()),
        "X" => Some("xxyy".to_owned()),
        "EX" => Some("x".to_owned()),
        "EMPTY" => Some(String::new()),
        "GLOBS" => Some("/foo*/*/*.txt".to_owned()),
        "STAR_SLASH" => Some("\\*/".to_owned()),
        "TMP" => Some("/tmp/tmp/bar.txt".to_owned()),
        "SLASH_TMP" => Some("/tmp".to_owned()),
        "ONE_DEEP" => Some("/?/".to_owned()),
        "FILE" => Some("/a/foo/b/c.txt".to_owned()),
        "SLASH" => Some("/".to_owned()),
        "LINES" => Some("a1\nb1".to_owned()),
        _ => None,
    };
    let cases = [
        ("${SIGNS#()[]{\\}^$.\\*\\?|\\\\}", Some("x")),
        ("${STARS%%\\**}", Some("xx")),
        ("${MORE%%\\**\\*}", Some("a")),
        ("${MARKS#?\\?}", Some("?y")),
        ("${X#*x*y}", Some("y")),
        ("${X#*}", Some("xxyy")),
        ("${X##*x}", Some("yy")),
        ("${X#$EX}", Some("xyy")),
        ("${X#$EMPTY}", Some("xxyy")),
        ("${X##}", Some("xxyy")),
        ("${X#}", Some("xxyy")),
        ("${X%}", Some("xxyy")),
        ("${X%%$EMPTY}", Some("xxyy")),
        ("${UNSET:-.}${X%x}${UNSET:-.}", Some(".xxyy.")),
        ("${GLOBS/$STAR_SLASH/.} ${GLOBS//$STAR_SLASH/.}", Some("/foo.*/*.txt /foo..*.txt")),
        ("${TMP/$SLASH_TMP/} ${TMP//$SLASH_TMP/}", Some("/tmp/bar.txt /bar.txt")),
        ("${FILE/$ONE_DEEP/$SLASH} ${FILE//$ONE_DEEP/$SLASH}", Some("/foo/b/c.txt /foo/c.txt")),
        ("${TMP//\\//\\/}", Some("\\/tmp\\/tmp\\/bar.txt")),
        ("${X/$EMPTY/w}", Some("wxxyy")),
        ("${X//$EMPTY/w}", Some("wxwxwywyw")),
        ("${X//*/w}", Some("w")),
        ("${X//w}", None),
        ("${X//}", None),
        ("${X///}", Some("xxyy")),
        ("${UNSET///}", Some("")),
        ("${UNSET#a}", Some("")),
        ("${LINES#*1}", Some("\nb1")),
        ("${LINES%%1*}", Some("a1\nb")),
        ("${LINES//?/.}", Some("..\n..")),
        ("${X#\\x}", None),
        ("${X#\\\\\\}", None),
        ("${X/\\a/b}", None),
    ];
    for (text, expected) in cases {
        assert_eq!(Lexer::new('\\').word(text, &value).ok().as_deref(), expected, "{text}");
    }
}

/// BuildKit's table of word lists, in our words.
#[test]
fn variables_split_where_they_are_not_quoted() {
    let value = |name: &str| match name {
        "hi" => Some("hi".to_owned()),
        "space" => Some("abc  def".to_owned()),
        "leading" => Some("  ab c".to_owned()),
        "trailing" => Some("ab c   ".to_owned()),
        _ => None,
    };
    let cases: [(&str, &[&str]); 15] = [
        ("x${UNSET}y", &["xy"]),
        ("x${hi}y", &["xhiy"]),
        ("x${space}y", &["xabc", "defy"]),
        ("x\"${space}\"y", &["xabc  defy"]),
        ("x \"${space}\"y", &["x", "abc  defy"]),
        ("x${leading}y", &["x", "ab", "cy"]),
        ("x\"${leading}\" y", &["x  ab c", "y"]),
        ("x${leading}", &["x", "ab", "c"]),
        ("x${trailing}", &["xab", "c"]),
        ("x${trailing}y", &["xab", "c", "y"]),
        ("x\"${trailing}\"y", &["xab c   y"]),
        ("x\" y  \"", &["x y  "]),
        ("x y     ", &["x", "y"]),
        ("x\\ y", &["x y"]),
        ("x\\\" y", &["x\"", "y"]),
    ];
    for (text, expected) in cases {
        assert_eq!(Lexer::new('\\').words(text, &value).as_deref(), Ok(expected.map_owned().as_slice()), "{text}");
    }
}

#[test]
fn word_list_table() {
    let cases: [(&str, &[&str]); 12] = [
        ("a b", &["a", "b"]),
        ("  a\t b ", &["a", "b"]),
        ("\"a b\" c", &["a b", "c"]),
        ("a\\ b c", &["a b", "c"]),
        ("$LIST", &["one", "two"]),
        ("x$LIST y", &["xone", "two", "y"]),
        ("\"$LIST\"", &["one two"]),
        ("'' a", &["a"]),
        ("\"\"", &[]),
        ("$EMPTY", &[]),
        ("a$EMPTY", &["a"]),
        ("", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(Lexer::new('\\').words(text, &lookup).as_deref(), Ok(expected.map_owned().as_slice()), "{text}");
    }
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}
impl MapOwned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|word| (*word).to_owned()).collect()
    }
}

#[test]
fn what_is_refused() {
    let required = |message: &str| WordError::Required { name: "UNSET".to_owned(), message: message.to_owned() };
    let cases = [
        ("'a", WordError::Quote("single")),
        ("\"a", WordError::Quote("double")),
        ("\"a\\", WordError::Quote("double")),
        ("${", WordError::Unclosed('}')),
        ("${A", WordError::Unclosed('}')),
        ("${A:", WordError::Unclosed('}')),
        ("${A:-b", WordError::Unclosed('}')),
        ("${A/b", WordError::Unclosed('/')),
        ("${}", WordError::NoName),
        ("${:}", WordError::NoName),
        ("${:-x}", WordError::NoName),
        ("${{A}}", WordError::NoName),
        ("${A:=b}", WordError::Modifier(":=".to_owned())),
        ("${A;}", WordError::Modifier(";".to_owned())),
        ("${UNSET?}", required("is not allowed to be unset")),
        ("${UNSET:?why}", required("why")),
        ("${UNSET?why $A}", required("why hello")),
        ("${EMPTY:?}", WordError::Required { name: "EMPTY".to_owned(), message: "is not allowed to be empty".to_owned() }),
    ];
    for (text, expected) in cases {
        assert_eq!(Lexer::new('\\').word(text, &lookup), Err(expected), "{text}");
    }
    let doubling = |_: &str| Some("x".repeat(1 << 20));
    assert_eq!(Lexer::new('\\').word(&"$a".repeat(1000), &doubling), Err(WordError::TooLarge));
    assert_eq!(Lexer::new('\\').word(&format!("\"{}\"", "$a".repeat(1000)), &doubling), Err(WordError::TooLarge));
    assert_eq!(Lexer::new('\\').word("${a//*b*/c}", &doubling), Err(WordError::TooLarge));
    let deep = "${U:-".repeat(100_000);
    assert_eq!(Lexer::new('\\').word(&deep, &lookup), Err(WordError::TooLarge));
}

#[test]
fn other_readings() {
    let backtick = Lexer::new('`');
    assert_eq!(backtick.word("c:\\dir`$A", &lookup).as_deref(), Ok("c:\\dir$A"));
    let body = Lexer { quotes: Quotes::Literal, ..Lexer::new('\\') };
    assert_eq!(body.word("it's \"$A\" \\$A", &lookup).as_deref(), Ok("it's \"hello\" $A"));
    let raw = Lexer { quotes: Quotes::Keep, unset: Unset::Keep, ..Lexer::new('\\') };
    let expected = ["cat", "<<\"E O F\"", "$UNSET", "${UNSET}", "a\\ b"].map(str::to_owned);
    assert_eq!(raw.words("cat <<\"E O F\" $UNSET ${UNSET} a\\ b", &lookup).as_deref(), Ok(expected.as_slice()));
    for text in ["${UNSET:-d}", "${UNSET-d}", "${UNSET:?d}", "${UNSET#d}", "${UNSET%%d}", "${UNSET/a/b}"] {
        assert_eq!(raw.words(text, &lookup).as_deref(), Ok([text.to_owned()].as_slice()), "an unset variable stays as written");
    }
}
