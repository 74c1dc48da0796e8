//! Cases of the Dockerfile parser.

use super::*;

fn instructions(text: &str) -> Vec<Instruction> {
    let file = parse("Dockerfile", text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"));
    file.statements.into_iter().map(|statement| statement.instruction).collect()
}

/// The instruction after `FROM scratch`.
fn one(text: &str) -> Instruction {
    let mut all = instructions(&format!("FROM scratch\n{text}"));
    assert_eq!(all.len(), 2, "{text:?}: {all:?}");
    all.remove(1)
}

fn shell(text: &str) -> CommandLine {
    CommandLine::Shell(text.to_owned())
}

fn exec(words: &[&str]) -> CommandLine {
    CommandLine::Exec(words.iter().map(|word| (*word).to_owned()).collect())
}

fn run(text: &str) -> Run {
    match one(text) {
        Instruction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn lines_are_joined_and_comments_dropped() {
    let cases = [
        ("RUN a \\\n b", "a  b"),
        ("RUN a \\\n# comment\n b", "a  b"),
        ("RUN a \\\n  # indented comment\n b", "a  b"),
        ("RUN a \\\n\n b", "a  b"),
        ("RUN a \\  \t\n b", "a  b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("  run a", "a"),
        ("RuN a", "a"),
        ("RUN a # no comment", "a # no comment"),
        ("RUN echo \\\\", "echo \\\\"),
        ("RUN a \\", "a"),
        ("RUN a \\\n", "a"),
        ("RUN a && \\\n    b && \\\n    c", "a &&     b &&     c"),
        // the escape character alone on a line continues too; a doubled one does not
        ("RUN a \\\n\\\nb", "a b"),
        ("\\\nRUN a", "a"),
        ("RUN a \\\n\n\n# c\n\n b \\\n", "a  b"),
        ("\t \u{a0}RUN\ta", "a"),
        ("RUN a\\ b", "a\\ b"),
        ("RUN a \\b", "a \\b"),
        ("RUN a\r\n# comment\r\n\r\n", "a"),
        ("RUN a \\\r\n# comment\r\n\r\n b\r\n", "a  b"),
    ];
    for (text, expected) in cases {
        assert_eq!(run(text).command, shell(expected), "{text:?}");
    }
    assert_eq!(instructions("\u{feff}FROM scratch\n").len(), 1);
    assert_eq!(instructions("\u{feff}# escape=`\nFROM scratch\nRUN a `\n b").len(), 2);
    assert_eq!(instructions("FROM scratch\nRUN echo \\\\\nRUN b").len(), 3, "a doubled escape character ends no line early");
    assert_eq!(instructions("# escape=`\nFROM scratch\nRUN echo ``\nRUN b").len(), 3);
    assert_eq!(instructions("FROM scratch\nRUN a \\ # not a continuation\nRUN b").len(), 3);
}

#[test]
fn what_stands_around_an_instruction_is_kept() {
    let file = parse("Dockerfile", "# check=skip=all\n# of the stage\nFROM scratch\n# far\n\n#near\n# er\nRUN a \\\n\n\n  b\nRUN c")
        .expect("parses");
    let comments: Vec<_> = file.statements.iter().map(|statement| statement.comments.join("|")).collect();
    assert_eq!(comments, ["of the stage", "near|er", ""]);
    assert_eq!(file.statements.iter().map(|statement| statement.empty_line).collect::<Vec<_>>(), [None, Some(9), None]);
    assert_eq!(file.check, Some((1, "skip=all".to_owned())));
    let run = &file.statements[1];
    let place = |offset| file.place(run, offset).to_string();
    assert_eq!([place(0), place(4), place(run.text.find('b').expect("b"))], ["Dockerfile:8:1", "Dockerfile:8:5", "Dockerfile:11:3"]);
    assert_eq!(place(9_999), "Dockerfile:11:4", "an offset beyond the text is its end");
}

#[test]
fn directives_stand_at_the_top_only() {
    let text = "# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM scratch\nRUN a `\n b c:\\\nRUN d";
    let file = parse("Dockerfile", text).expect("parses");
    assert_eq!(file.escape, '`');
    assert_eq!(file.statements.len(), 3);
    let late = parse("Dockerfile", "# a comment\n# escape=`\nFROM scratch\nRUN a \\\n b").expect("parses");
    assert_eq!((late.escape, late.statements.len()), ('\\', 2));
    let after_blank = parse("Dockerfile", "\n# escape=`\nFROM scratch").expect("parses");
    assert_eq!(after_blank.escape, '\\');
    assert_eq!(parse("Dockerfile", "#ESCAPE = ` \nFROM scratch").expect("parses").escape, '`');
    assert_eq!(parse("Dockerfile", "#!/usr/bin/env build\n# escape=`\nFROM scratch").expect("parses").escape, '`');
    let read = |text: &str| {
        let file = parse("Dockerfile", text).expect(text);
        (file.escape, file.syntax, file.check.map(|(_, check)| check))
    };
    let cases = [
        ("# escape=\\\nFROM scratch", ('\\', None, None)),
        ("  # escape=`\nFROM scratch", ('`', None, None)),
        ("#syntax=a\n#check=b\n#escape=`\nFROM scratch", ('`', Some("a"), Some("b"))),
        ("# unknown=x\n# escape=`\nFROM scratch", ('\\', None, None)),
        ("# two words=x\n# escape=`\nFROM scratch", ('\\', None, None)),
        ("# syntax=\n# escape=`\nFROM scratch", ('\\', None, None)),
        ("# escape\n# escape=`\nFROM scratch", ('\\', None, None)),
        ("FROM scratch\n# escape=`", ('\\', None, None)),
        ("# syntax=a=b\nFROM scratch", ('\\', Some("a=b"), None)),
    ];
    for (text, (escape, syntax, check)) in cases {
        assert_eq!(read(text), (escape, syntax.map(str::to_owned), check.map(str::to_owned)), "{text:?}");
    }
}

#[test]
fn commands_have_two_forms() {
    assert_eq!(one("CMD [\"a\", \"b c\"]"), Instruction::Cmd(exec(&["a", "b c"])));
    assert_eq!(one("CMD a 'b c'"), Instruction::Cmd(shell("a 'b c'")));
    assert_eq!(one("CMD ['a']"), Instruction::Cmd(shell("['a']")));
    assert_eq!(one("CMD []"), Instruction::Cmd(exec(&[])));
    assert_eq!(one("ENTRYPOINT [ \"a\" ]"), Instruction::Entrypoint(exec(&["a"])));
    for text in ["CMD [\"a\",]", "CMD [\"a\" \"b\"]", "CMD [a]", "CMD [\"a\"", "CMD [\"\\x\"]"] {
        assert_eq!(one(text), Instruction::Cmd(shell(&text[4..])), "invalid JSON is the shell form");
    }
    assert_eq!(one("CMD [\"\\u0041\\\\n\", \"\"]"), Instruction::Cmd(exec(&["A\\n", ""])));
    assert_eq!(one("CMD\t[ \\\n  \"a\", \\\n  # why\n  \"b\" \\\n]"), Instruction::Cmd(exec(&["a", "b"])));
    assert_eq!(one("ENTRYPOINT []"), Instruction::Entrypoint(exec(&[])));
    assert_eq!(one("RUN [ -f /x ] || touch /x"), Instruction::Run(run("RUN [ -f /x ] || touch /x")));
    assert_eq!(run("RUN [ -f /x ] || touch /x").command, shell("[ -f /x ] || touch /x"));
    assert_eq!(one("SHELL [\"/bin/bash\", \"-c\"]"), Instruction::Shell(vec!["/bin/bash".to_owned(), "-c".to_owned()]));
}

#[test]
fn pairs_of_names_and_values() {
    let cases: [(&str, &[(&str, &str)]); 10] = [
        ("ENV A=1", &[("A", "1")]),
        ("ENV A=1 B=2", &[("A", "1"), ("B", "2")]),
        ("ENV A=\"x y\" B='x y' C=x\\ y", &[("A", "\"x y\""), ("B", "'x y'"), ("C", "x\\ y")]),
        ("ENV A 1 2 = 3", &[("A", "1 2 = 3")]),
        ("ENV A   \"x y\"", &[("A", "\"x y\"")]),
        ("ENV A=", &[("A", "")]),
        ("ENV A=a=b", &[("A", "a=b")]),
        ("ENV A=1 \\\n    B=2 \\\n    # c\n    C=3", &[("A", "1"), ("B", "2"), ("C", "3")]),
        ("ENV A=$B\\$C", &[("A", "$B\\$C")]),
        ("ENV A='a\"b' B=c", &[("A", "'a\"b'"), ("B", "c")]),
    ];
    for (text, expected) in cases {
        assert_eq!(one(text), Instruction::Env(pairs(expected)), "{text:?}");
    }
    assert_eq!(one("LABEL a.b=c \"d e\"=f"), Instruction::Label(pairs(&[("a.b", "c"), ("\"d e\"", "f")])));
}

#[test]
fn arguments_with_and_without_defaults() {
    let all = instructions("ARG A\nARG B=1 C=\"x y\" D\nFROM scratch");
    let names = vec![("B".to_owned(), Some("1".to_owned())), ("C".to_owned(), Some("\"x y\"".to_owned())), ("D".to_owned(), None)];
    assert_eq!(all[..2], [Instruction::Arg(vec![("A".to_owned(), None)]), Instruction::Arg(names)]);
}

#[test]
fn stages_have_names() {
    let from = |image: &str, platform: Option<&str>, name: Option<&str>| {
        Instruction::From(From { image: image.to_owned(), platform: platform.map(str::to_owned), name: name.map(str::to_owned) })
    };
    let cases = [
        ("FROM a", from("a", None, None)),
        ("FROM a AS Base", from("a", None, Some("base"))),
        ("from a as b", from("a", None, Some("b"))),
        ("FROM --platform=linux/amd64 a:1", from("a:1", Some("linux/amd64"), None)),
        ("FROM a@sha256:00 AS x-1.2_3", from("a@sha256:00", None, Some("x-1.2_3"))),
    ];
    for (text, expected) in cases {
        assert_eq!(instructions(text), [expected], "{text:?}");
    }
}

#[test]
fn copies_and_their_flags() {
    let transfer = |text: &str| match one(text) {
        Instruction::Copy { transfer, .. } | Instruction::Add { transfer, .. } => transfer,
        other => panic!("{other:?}"),
    };
    let paths = |text: &str| {
        let transfer = transfer(text);
        let sources = transfer.sources.into_iter().map(|source| match source {
            Source::Path(path) => path,
            Source::Inline(heredoc) => format!("<<{}", heredoc.name),
        });
        sources.chain([transfer.destination]).collect::<Vec<_>>()
    };
    assert_eq!(paths("COPY a b c/"), ["a", "b", "c/"]);
    assert_eq!(paths("COPY [\"a b\", \"c\"]"), ["a b", "c"]);
    assert_eq!(paths("COPY \"a\" b"), ["\"a\"", "b"]);
    assert_eq!(paths("COPY <<EOF x /d/\nbody\nEOF"), ["x", "<<EOF", "/d/"]);
    let flags = transfer("COPY --chown=1:2 --chmod=755 --link --exclude=*.md --exclude=x a b");
    assert_eq!((flags.chown.as_deref(), flags.chmod.as_deref(), flags.link), (Some("1:2"), Some("755"), true));
    assert_eq!(flags.exclude, ["*.md", "x"]);
    assert!(matches!(one("COPY --from=0 a b"), Instruction::Copy { from: Some(from), .. } if from == "0"));
    assert!(matches!(one("COPY --parents a b"), Instruction::Copy { parents: true, .. }));
    assert!(matches!(one("ADD --unpack=false a b"), Instruction::Add { unpack: Some(false), .. }));
}

#[test]
fn heredocs_take_their_lines() {
    let bodies = |text: &str| run(text).heredocs.into_iter().map(|h| (h.name, h.content, h.expand)).collect::<Vec<_>>();
    let body = |name: &str, content: &str, expand| (name.to_owned(), content.to_owned(), expand);
    assert_eq!(bodies("RUN <<EOF\na\n# b\n\nEOF"), [body("EOF", "a\n# b\n\n", true)]);
    assert_eq!(bodies("RUN cat <<A <<B\na\nA\nb\nB"), [body("A", "a\n", true), body("B", "b\n", true)]);
    assert_eq!(bodies("RUN <<-EOF\n\t\ta\n\tEOF"), [body("EOF", "a\n", true)]);
    assert_eq!(bodies("RUN <<'EOF'\n$a\nEOF"), [body("EOF", "$a\n", false)]);
    assert_eq!(bodies("RUN 3<<\"E\"OF\n$a\nEOF"), [body("EOF", "$a\n", false)]);
    assert_eq!(bodies("RUN cat <<EOF > /x \\\n && true\na\nEOF"), [body("EOF", "a\n", true)]);
    assert_eq!(bodies("RUN <<EOF\nEOF"), [body("EOF", "", true)]);
    assert_eq!(bodies("RUN echo \"<<EOF\""), []);
    assert_eq!(bodies("RUN [\"a\", \"<<EOF\"]"), []);
    assert_eq!(bodies("RUN cat <<<EOF"), []);
    assert_eq!(bodies("RUN echo it's <<EOF"), [], "an open quote: no heredoc to be told from the text");
    assert_eq!(bodies("RUN 4<<EMPTY\nEMPTY"), [body("EMPTY", "", true)]);
    assert_eq!(bodies("RUN <<-EOF\n\ta\n  b\n\t c\n EOF\nEOF"), [body("EOF", "a\n  b\n c\n EOF\n", true)], "blanks are not tabs");
    assert_eq!(bodies("RUN <<EOF\n\tEOF\nEOF"), [body("EOF", "\tEOF\n", true)]);
    assert_eq!(bodies("RUN <<X <<Y\nY\nX\nX\nY"), [body("X", "Y\n", true), body("Y", "X\n", true)]);
    assert_eq!(bodies("RUN <<eo'f'\na\neof"), [body("eof", "a\n", false)]);
    assert_eq!(bodies("RUN <<eo\\'f\na\neo'f"), [body("eo'f", "a\n", false)]);
    assert_eq!(bodies("RUN <<'e'o\\'f\na\neo'f"), [body("eo'f", "a\n", false)]);
    assert_eq!(bodies("RUN <<'one two'\na\none two"), [body("one two", "a\n", false)]);
    assert_eq!(bodies("RUN <<$EOF\n$EOF"), [body("$EOF", "", true)]);
    assert_eq!(bodies("RUN <<file.txt cat\na\nfile.txt"), [body("file.txt", "a\n", true)]);
    assert_eq!(bodies("RUN --mount=type=cache,target=/x <<EOF\na\nEOF"), [body("EOF", "a\n", true)]);
    assert_eq!(bodies("RUN <<EOF\r\na\r\nEOF\r\n"), [body("EOF", "a\r\n", true)]);
    assert_eq!(bodies("RUN cat << EOF\na\nEOF"), [body("EOF", "a\n", true)]);
    assert_eq!(bodies("RUN cat <<-  'EOF' > /x\n\ta\nEOF"), [body("EOF", "a\n", false)]);
    assert_eq!(bodies("RUN echo $((1 << 2)) $((a << b))"), []);
    assert_eq!(bodies("RUN echo ${A:-<<EOF}"), [], "an unset variable's default is not looked into");
    assert_eq!(bodies("RUN '<<EOF'"), []);
    assert_eq!(bodies("RUN echo a<<EOF"), []);
    assert_eq!(bodies("RUN cat << "), []);
    assert_eq!(bodies("RUN cat <<-"), []);
    assert_eq!(one("USER <<EOF"), Instruction::User("<<EOF".to_owned()), "only RUN, COPY and ADD take them");
    assert_eq!(bodies("# no directive here\nRUN <<E`OF`\na\nE`OF`"), [body("E`OF`", "a\n", true)]);
    let backtick = parse("Dockerfile", "# escape=`\nFROM scratch\nRUN <<E\\OF\na `\nEOF").expect("parses");
    let Instruction::Run(run) = &backtick.statements[1].instruction else { panic!("{backtick:?}") };
    assert_eq!((run.heredocs[0].name.as_str(), run.heredocs[0].content.as_str()), ("EOF", "a `\n"), "their words are quoted with \\");
    assert_eq!(instructions("FROM scratch\nRUN <<EOF\nFROM x\nEOF\nRUN b").len(), 3);
    let trigger = one("ONBUILD RUN <<EOF\nbody\nEOF");
    assert_eq!(trigger, Instruction::OnBuild("RUN <<EOF\nbody\nEOF".to_owned()));
    let again = parse_trigger("RUN <<EOF\nbody\nEOF").expect("parses");
    assert!(matches!(again.instruction, Instruction::Run(run) if run.heredocs.len() == 1));
}

#[test]
fn health_checks() {
    assert_eq!(one("HEALTHCHECK NONE"), Instruction::HealthCheck(HealthCheck::None));
    let probe = one("HEALTHCHECK --interval=5s --timeout=1m30s --retries=2 --start-period=0s CMD [\"a\"]");
    let expected = HealthCheck::Probe {
        command: exec(&["a"]),
        interval: Some(std::time::Duration::from_secs(5)),
        timeout: Some(std::time::Duration::from_secs(90)),
        start_period: None,
        start_interval: None,
        retries: Some(2),
    };
    assert_eq!(probe, Instruction::HealthCheck(expected));
    assert!(matches!(one("healthcheck cmd a"), Instruction::HealthCheck(HealthCheck::Probe { command, .. }) if command == shell("a")));
    assert_eq!(one("HEALTHCHECK --interval=1s none"), Instruction::HealthCheck(HealthCheck::None));
}

#[test]
fn the_rest() {
    assert_eq!(one("WORKDIR /a b"), Instruction::Workdir("/a b".to_owned()));
    assert_eq!(one("EXPOSE 80/tcp $P"), Instruction::Expose(vec!["80/tcp".to_owned(), "$P".to_owned()]));
    assert_eq!(one("VOLUME [\"/a\", \"/b c\"]"), Instruction::Volume(vec!["/a".to_owned(), "/b c".to_owned()]));
    assert_eq!(one("VOLUME /a /b"), Instruction::Volume(vec!["/a".to_owned(), "/b".to_owned()]));
    assert_eq!(one("MAINTAINER a b"), Instruction::Maintainer("a b".to_owned()));
    assert_eq!(one("STOPSIGNAL SIGINT"), Instruction::StopSignal("SIGINT".to_owned()));
    assert_eq!(one("ONBUILD COPY . /"), Instruction::OnBuild("COPY . /".to_owned()));
    assert_eq!(run("RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --network=none x").mounts.len(), 2);
}

#[test]
fn errors_name_their_place() {
    let cases = [
        ("FORM a", "1:1", "unknown instruction FORM"),
        ("FROM scratch\n  COPPY a b", "2:3", "unknown instruction COPPY"),
        ("RUN a", "1:1", "the first instruction is FROM; only ARG may stand before it"),
        ("", "1:1", "there is no FROM"),
        ("FROM", "1:5", "FROM needs at least one argument"),
        ("FROM a b", "1:6", "FROM takes an image, or an image, AS and a name"),
        ("FROM a AS 1x", "1:6", "\"1x\" is not a stage name: a letter, then letters, digits, '-', '_' and '.'"),
        ("FROM scratch\nENV A", "2:5", "ENV needs a name and a value: A=…"),
        ("FROM scratch\nENV A=1 B", "2:9", "B has no '='"),
        ("FROM scratch\nENV A=1 \\\n  B", "3:3", "B has no '='"),
        ("FROM scratch\nENV =1", "2:5", "a name is empty"),
        ("FROM scratch\nCOPY a", "2:6", "COPY needs at least a source and a destination"),
        ("FROM scratch\nCOPY --form=x a b", "2:6", "COPY has no flag --form"),
        ("FROM scratch\nCOPY --from=$x a b", "2:16", "variables do not work in --from"),
        ("FROM scratch\nCOPY --from a b", "2:6", "--from needs a value: --from=…"),
        ("FROM scratch\nCOPY --link=perhaps a b", "2:6", "--link is true or false, not \"perhaps\""),
        ("FROM scratch\nRUN <<EOF\nx", "2:1", "heredoc <<EOF is not closed: no line consists of EOF alone"),
        ("FROM scratch\nCMD [1]", "2:5", "a JSON array of arguments holds strings only"),
        ("FROM scratch\nSHELL a", "2:7", "SHELL needs a JSON array, such as [\"/bin/bash\", \"-c\"]"),
        ("FROM scratch\nHEALTHCHECK CMD []", "2:13", "HEALTHCHECK CMD needs a command"),
        ("FROM scratch\nHEALTHCHECK NONE a", "2:13", "HEALTHCHECK NONE takes no arguments"),
        ("FROM scratch\nHEALTHCHECK --retries=-1 CMD a", "2:26", "--retries=-1 is not a number of failures"),
        ("FROM scratch\nENTRYPOINT [\"a\", null]", "2:12", "a JSON array of arguments holds strings only"),
        ("FROM scratch\nCOPY [\"a\"] ", "2:6", "COPY needs at least a source and a destination"),
        ("FROM scratch\nCOPY a <<EOF\nEOF", "2:6", "a heredoc cannot be the destination"),
        ("FROM scratch\nONBUILD ONBUILD RUN a", "2:9", "FROM, ONBUILD and MAINTAINER cannot be triggers"),
        ("FROM scratch\nONBUILD maintainer a", "2:9", "FROM, ONBUILD and MAINTAINER cannot be triggers"),
        ("FROM scratch AS a AS b", "1:6", "FROM takes an image, or an image, AS and a name"),
        ("# check=a\n#check=b\nFROM scratch", "2:1", "directive check is given twice"),
        ("# syntax=a\n#syntax=b\nFROM scratch", "2:1", "directive syntax is given twice"),
        ("# escape=`a\nFROM scratch", "1:1", "the escape character is \\ or `, not \"`a\""),
        ("FROM scratch\nRUN --network=x a", "2:17", "--network is default, none or host, not \"x\""),
        ("FROM scratch\nHEALTHCHECK a", "2:13", "HEALTHCHECK is NONE or CMD and a command, not a"),
        ("FROM scratch\nONBUILD FROM a", "2:9", "FROM, ONBUILD and MAINTAINER cannot be triggers"),
        ("FROM scratch\nONBUILD RUNN a", "2:9", "unknown instruction RUNN"),
        ("# escape=x\nFROM scratch", "1:1", "the escape character is \\ or `, not \"x\""),
        ("# escape=`\n# escape=`\nFROM scratch", "2:1", "directive escape is given twice"),
        ("FROM scratch\nUSER --x y", "2:6", "USER has no flag --x"),
    ];
    for (text, at, problem) in cases {
        let errors = parse("Dockerfile", text).expect_err(text);
        let place = format!("{}:{}", errors[0].place.line, errors[0].place.column);
        assert_eq!((place.as_str(), errors[0].problem.as_str()), (at, problem), "{text:?}");
    }
}

#[test]
fn all_errors_are_found_and_shown() {
    let errors = parse("web/Dockerfile", "FROM scratch\nCOPY --form=x a b\nRUN true\nENTRYPIONT a\n").expect_err("two errors");
    let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "web/Dockerfile:2:6: COPY has no flag --form\n2 | COPY --form=x a b\n  |      ^ did you mean --from?",
        "web/Dockerfile:4:1: unknown instruction ENTRYPIONT\n4 | ENTRYPIONT a\n  | ^ did you mean ENTRYPOINT?",
    ];
    assert_eq!(text, expected);
}
