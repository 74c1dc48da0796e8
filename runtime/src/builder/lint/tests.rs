//! Cases of the rules: a Dockerfile and what is told of it, as `line:column rule message`.

use super::*;
use crate::builder::file;

/// Lints with this `.dockerignore` and these arguments; images called `known` set `BASE`, others are not known.
fn found_with(text: &str, ignored: &str, args: &[(&str, &str)]) -> Vec<Warning> {
    let (file, _) = file::read("Dockerfile", text);
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let ignored = IgnoreRules::parse(".dockerignore", ignored).expect("patterns");
    let environment_of = |image: &str| (image == "known").then(|| vec!["BASE=1".to_owned()]);
    lint(&file, &Facts { args: &args, ignored: &ignored, environment_of: &environment_of }).expect("a readable directive").warnings
}

fn lines(warnings: &[Warning]) -> Vec<String> {
    let line = |w: &Warning| format!("{}:{}+{} {} {}", w.place.line, w.place.column, w.length, w.rule, w.message);
    warnings.iter().map(line).collect()
}

fn found(text: &str) -> Vec<String> {
    lines(&found_with(text, "", &[]))
}

#[test]
fn names_of_stages() {
    let nothing: [&str; 0] = [];
    assert_eq!(found("FROM scratch AS Bad"), ["1:17+3 StageNameCasing Stage name 'Bad' should be lowercase"]);
    assert_eq!(found("FROM scratch as b"), ["1:14+2 FromAsCasing 'as' and 'FROM' keywords' casing do not match"]);
    assert_eq!(found("from scratch AS b\nfrom scratch as c"), ["1:14+2 FromAsCasing 'AS' and 'from' keywords' casing do not match"]);
    assert_eq!(
        found("FROM scratch AS b\nFROM scratch AS B"),
        [
            "2:17+1 StageNameCasing Stage name 'B' should be lowercase",
            "2:17+1 DuplicateStageName Duplicate stage name \"b\", stage names should be unique"
        ]
    );
    assert_eq!(
        found("FROM scratch AS scratch\nFROM scratch AS context\nFROM scratch"),
        [
            "1:17+7 ReservedStageName Stage name should not use the same name as reserved stage \"scratch\"",
            "2:17+7 ReservedStageName Stage name should not use the same name as reserved stage \"context\""
        ]
    );
    assert_eq!(found("FROM scratch AS a1\nFROM --platform=$BUILDPLATFORM scratch AS b1"), nothing);
}

#[test]
fn cases_of_instructions() {
    let casing = |line: &str, name: &str, case: &str| {
        [format!("{line} ConsistentInstructionCasing Command '{name}' should match the case of the command majority ({case})")]
    };
    assert_eq!(found("From scratch as base\nFROM scratch AS base2"), casing("1:1+4", "From", "uppercase"));
    assert_eq!(found("frOM scratch as base\nfrom scratch as base2"), casing("1:1+4", "frOM", "lowercase"));
    assert_eq!(found("FROM scratch\ncopy a /b\nCOPY a /c"), casing("2:1+4", "copy", "uppercase"));
    assert_eq!(found("from scratch\nCOPY a /b\ncopy a /c"), casing("2:1+4", "COPY", "lowercase"));
    assert_eq!(found("from scratch\nCOPY a /b"), casing("1:1+4", "from", "uppercase"), "a draw is for upper case");
    assert_eq!(found("from scratch\ncopy a /b\nrun <<'EOT'\nENV\nEOT"), [""; 0]);
    assert_eq!(found("arg A=1\nFROM scratch\nRUN a"), [""; 0], "arguments before the first stage do not count");
}

#[test]
fn forms_of_instructions() {
    assert_eq!(found("FROM scratch\nCOPY a \\\n\n  \n b\nCOPY a \\\n b"), ["3:1+0 NoEmptyContinuation Empty continuation line"]);
    let json = "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals";
    assert_eq!(found("FROM scratch\nCMD mycommand"), [format!("2:1+3 JSONArgsRecommended {json}")]);
    assert_eq!(found("FROM scratch\nSHELL [\"/x\"]\nCMD a\nENTRYPOINT b"), [""; 0]);
    assert_eq!(found("FROM scratch AS a\nSHELL [\"/x\"]\nFROM a\nCMD b"), [""; 0]);
    assert_eq!(found("FROM scratch\nCMD [\"a\"]\nENTRYPOINT []\nHEALTHCHECK CMD a"), [""; 0]);
    let maintainer = "2:1+10 MaintainerDeprecated Maintainer instruction is deprecated in favor of using label";
    assert_eq!(found("FROM scratch\nMAINTAINER me@example.org"), [maintainer]);
    assert_eq!(
        found("FROM scratch\nENV name some value\nLABEL key value\nENV a=b c=d\nLABEL a=b"),
        [
            "2:5+4 LegacyKeyValueFormat \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            "3:7+3 LegacyKeyValueFormat \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format"
        ]
    );
    let multiple = |line: usize, name: &str| {
        format!(
            "{line}:1+{} MultipleInstructionsDisallowed Multiple {name} instructions should not be used in the same stage because only the last one will be used",
            name.len()
        )
    };
    let twice = "FROM scratch\nENTRYPOINT [\"a\"]\nCMD [\"a\"]\nHEALTHCHECK CMD a\nENTRYPOINT [\"b\"]\nCMD [\"b\"]\nHEALTHCHECK NONE";
    assert_eq!(found(twice), [multiple(2, "ENTRYPOINT"), multiple(3, "CMD"), multiple(4, "HEALTHCHECK")]);
    assert_eq!(found("FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]"), [""; 0], "a stage may say what the one below it says");
    assert_eq!(
        found("FROM scratch\nEXPOSE 80/TcP 81/tcp\nEXPOSE 127.0.0.1:80:80 5000:82 83"),
        [
            "2:8+6 ExposeProtoCasing Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
            "3:8+15 ExposeInvalidFormat EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            "3:24+7 ExposeInvalidFormat EXPOSE instruction should not define an IP address or host-port mapping, found '5000:82'"
        ]
    );
}

#[test]
fn variables_that_nothing_sets() {
    let undefined = |place: &str, rest: &str| format!("{place} UndefinedVar Usage of undefined variable {rest}");
    assert_eq!(found("FROM scratch\nARG foo\nCOPY Dockerfile${foo} ."), [""; 0], "declared without a value is declared");
    assert_eq!(found("FROM scratch AS base\nARG foo=x\nFROM base\nCOPY $foo ."), [""; 0], "a stage has the arguments of the one below");
    assert_eq!(found("FROM scratch\nRUN echo $nope\nCMD [\"$nope\"]\nENV P=$PATH:/x"), [""; 0], "RUN and CMD are the shell's");
    assert_eq!(found("FROM scratch\nCOPY $foo .\nARG foo=bar\nCOPY $foo ."), [undefined("2:6+4", "'$foo'")]);
    assert_eq!(
        found("FROM scratch\nARG DIR_ASSETS=a\nCOPY a ${DIR_ASSET}/b"),
        [undefined("3:8+12", "'$DIR_ASSET' (did you mean $DIR_ASSETS?)")]
    );
    assert_eq!(found("FROM scratch\nENV PATH=$PAHT:/bin"), [undefined("2:10+5", "'$PAHT' (did you mean $PATH?)")]);
    assert_eq!(found("ARG G=1\nFROM scratch\nLABEL a=b \\\n  c=$G"), [undefined("4:5+2", "'$G'")], "global until declared here");
    assert_eq!(found("FROM scratch\nCOPY <<EOF <<'RAW' /\n$body\nEOF\n$raw\nRAW"), [undefined("2:1+4", "'$body'")]);
    assert_eq!(found("FROM scratch\nRUN --mount=type=cache,target=$T true"), [undefined("2:31+2", "'$T'")]);
    assert_eq!(found("FROM scratch\nARG A=$B C=$A\nENV A=1 D=$E"), [undefined("2:7+2", "'$B'"), undefined("3:11+2", "'$E'")]);
    assert_eq!(found("FROM scratch\nENV a=1 b=$a"), [undefined("2:11+2", "'$a'")], "an instruction sees what was before it");
    assert_eq!(found("FROM scratch\nENV A='$quoted' B=\\$escaped C=\"${no:+x}\""), [undefined("2:32+5", "'$no'")]);
    assert_eq!(found("FROM known\nENV A=$BASE"), [""; 0]);
    let unknown = found_with("FROM other\nENV A=$BASE", "", &[]);
    assert_eq!(lines(&unknown), [undefined("2:7+5", "'$BASE'")]);
    assert_eq!(unknown[0].certainty, Certainty::UnlessBaseSetsIt);
}

#[test]
fn arguments_of_from() {
    assert_eq!(found("ARG base=scratch\nFROM $base\nCOPY a ."), [""; 0]);
    assert_eq!(
        found("FROM --platform=$BULIDPLATFORM scratch"),
        ["1:17+14 UndefinedArgInFrom FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"]
    );
    assert_eq!(
        found("ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox"),
        ["2:23+9 UndefinedArgInFrom FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)"]
    );
    assert_eq!(
        found("ARG tag=latest\nFROM busybox:${tag}${version} AS b"),
        ["2:20+10 UndefinedArgInFrom FROM argument 'version' is not declared"]
    );
    let default = |place: &str, image: &str| {
        format!("{place} InvalidDefaultArgInFrom Default value for ARG {image} results in empty or invalid base image name")
    };
    for (declared, image) in [("ARG VERSION", "busybox:$VERSION"), ("ARG VERSION", "$VERSION"), ("ARG VERSION=\"box:\"", "busy${VERSION}")]
    {
        let text = format!("{declared}\nFROM {image}");
        let told = found_with(&text, "", &[("VERSION", "latest")]);
        assert_eq!(lines(&told), [default(&format!("2:6+{}", image.len()), image)], "whatever is given now");
    }
    assert_eq!(found("ARG V=\"latest\"\nFROM busybox:${V}"), [""; 0]);
    assert_eq!(found("ARG V\nFROM busybox:stable${V}"), [""; 0]);
    for platform in ["$TARGETPLATFORM", "${TARGETPLATFORM}"] {
        let length = "--platform=".len() + platform.len();
        let message = format!("Setting platform to predefined {platform} in FROM is redundant as this is the default behavior");
        assert_eq!(found(&format!("FROM --platform={platform} scratch")), [format!("1:6+{length} RedundantTargetPlatform {message}")]);
    }
    assert_eq!(
        found("FROM --platform=linux/amd64 scratch"),
        ["1:6+22 FromPlatformFlagConstDisallowed FROM --platform flag should not use constant value \"linux/amd64\""]
    );
    assert_eq!(found("FROM --platform=linux/amd64 scratch AS my_amd64_stage\nFROM --platform=linux/amd64 scratch AS linux"), [""; 0]);
}

#[test]
fn paths() {
    let workdir = |place: &str, path: &str| {
        [format!("{place} WorkdirRelativePath Relative workdir {path:?} can have unexpected results if the base image changes")]
    };
    assert_eq!(found("FROM scratch\nWORKDIR app/"), workdir("2:9+4", "app/"));
    assert_eq!(found("FROM scratch\nWORKDIR app\nWORKDIR b"), workdir("2:9+3", "app"), "the first one mends the rest");
    assert_eq!(found("FROM scratch AS a\nWORKDIR /app\nFROM a\nWORKDIR b"), [""; 0]);
    assert_eq!(found("FROM scratch\nARG D=/d\nWORKDIR $D"), [""; 0]);
    let told = |ignored: &str| lines(&found_with("FROM scratch AS a\nCOPY ./x/y z /\nADD z http://x/y /\nCOPY --from=a z /", ignored, &[]));
    let ignored = |place: &str, verb: &str, path: &str| {
        format!("{place} CopyIgnoredFile Attempting to {verb} file {path:?} that is excluded by .dockerignore")
    };
    assert_eq!(told("x\nz"), [ignored("2:6+5", "Copy", "x/y"), ignored("2:12+1", "Copy", "z"), ignored("3:5+1", "Add", "z")]);
    assert_eq!(told("x\nz\n!w"), [""; 0], "what an exception leads to is not looked for");
    assert_eq!(told("w"), [""; 0]);
}

#[test]
fn secrets_by_their_names() {
    let text = "FROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\nARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\nENV git_key=\nENV TOKEN_FILE=/x PUBLIC_KEY=y KEYBOARD=z";
    let told: Vec<_> = found(text)
        .iter()
        .map(|line| line.replace("SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data ", ""))
        .collect();
    let expected = [
        "2:5+17 (ARG \"SECRET_PASSPHRASE\")",
        "3:5+12 (ENV \"SUPER_Secret\")",
        "4:5+8 (ENV \"password\")",
        "4:18+6 (ENV \"secret\")",
        "5:5+24 (ARG \"super_duper_secret_token\")",
        "5:34+4 (ARG \"auth\")",
        "6:5+6 (ENV \"apikey\")",
        "7:5+7 (ENV \"git_key\")",
    ];
    assert_eq!(told, expected);
}

#[test]
fn descriptions_only_if_asked_for() {
    let text = "# bad\nFROM scratch AS a\n# a good one\nFROM scratch AS a2\n\n# far\n\nARG X\n# Y is good\nARG Y\n# bad\nARG Z V\n# none\nFROM scratch\n";
    assert_eq!(found(text), [""; 0]);
    let told = found(&format!("# check=experimental=all;skip=all\n{text}"));
    let expected = [
        "3:1+4 InvalidDefinitionDescription Comment for FROM should follow the format: `# a <description>`",
        "5:1+4 InvalidDefinitionDescription Comment for FROM should follow the format: `# a2 <description>`",
        "13:1+3 InvalidDefinitionDescription Comment for ARG should follow the format: `# <arg_key> <description>`",
    ];
    assert_eq!(told, expected);
}

#[test]
fn which_rules_count() {
    let body = "FROM scratch as base\ncopy Dockerfile .\n";
    let rules = |check: &str, args: &[(&str, &str)]| {
        found_with(&format!("# check={check}\n{body}"), "", args).iter().map(|w| w.rule.to_string()).collect::<Vec<_>>().join(",")
    };
    assert_eq!(rules("error=false", &[]), "FromAsCasing,ConsistentInstructionCasing");
    assert_eq!(rules("skip=all", &[]), "");
    assert_eq!(rules("skip=ConsistentInstructionCasing", &[]), "FromAsCasing");
    assert_eq!(rules("skip=ConsistentInstructionCasing,FromAsCasing;error=true", &[]), "");
    assert_eq!(rules("skip=all", &[("BUILDKIT_DOCKERFILE_CHECK", "skip=FromAsCasing")]), "ConsistentInstructionCasing");
    assert_eq!(found("FROM scratch\n# check=skip=JSONArgsRecommended\nCMD a"), [""; 0]);
    assert_eq!(found("FROM scratch\n# why\n# check=skip=all\nCMD a"), [""; 0]);
    let lint = |text: &str| {
        let (file, _) = file::read("Dockerfile", text);
        let facts = Facts { args: &BTreeMap::new(), ignored: &IgnoreRules::default(), environment_of: &|_| None };
        lint(&file, &facts)
    };
    let refusal = |text: &str| lint(text).expect("lints").refusal().map(|errors| errors[0].to_string());
    let expected = "Dockerfile:3:1: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (JSONArgsRecommended)\n3 | CMD a b\n  | ^ write CMD [\"a\", \"b\"]";
    assert_eq!(refusal("# check=error=true\nFROM scratch\nCMD a b").as_deref(), Some(expected));
    assert_eq!(refusal("FROM scratch\nCMD a b"), None);
    assert_eq!(refusal("# check=error=true\nFROM other\nENV A=$B"), None, "the base may set it: not sure enough to refuse a build");
    let error = lint("# syntax=x\n# check=eror=true\nFROM scratch").expect_err("refused");
    assert_eq!((error.place.line, error.problem.as_str()), (2, "unknown check option \"eror\": there are skip, experimental and error"));
}

#[test]
fn what_can_be_read_is_checked_whatever_cannot() {
    assert_eq!(
        found("FROM scratch AS Bad\nMAINTAINER me\nBADCMD\n"),
        [
            "1:17+3 StageNameCasing Stage name 'Bad' should be lowercase",
            "2:1+10 MaintainerDeprecated Maintainer instruction is deprecated in favor of using label"
        ]
    );
    assert_eq!(found(""), [""; 0]);
    assert_eq!(found("ENV A=$B"), ["1:7+2 UndefinedVar Usage of undefined variable '$B'"]);
}
