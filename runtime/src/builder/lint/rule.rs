//! The rules and their words. Names, and what each is about, are BuildKit's: the checks people know from `docker build --check`.

use std::fmt;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Stage names are in lower case.
    StageNameCasing,
    /// `AS` is written as `FROM` is.
    FromAsCasing,
    /// No empty line within an instruction.
    NoEmptyContinuation,
    /// All instructions in the same case.
    ConsistentInstructionCasing,
    /// Each stage has a name of its own.
    DuplicateStageName,
    /// No stage is called `scratch` or `context`.
    ReservedStageName,
    /// CMD and ENTRYPOINT as JSON: a shell does not pass signals on.
    JSONArgsRecommended,
    /// MAINTAINER is a label today.
    MaintainerDeprecated,
    /// What FROM uses is declared before it.
    UndefinedArgInFrom,
    /// A relative working directory depends on the base image.
    WorkdirRelativePath,
    /// Variables are set before they are used.
    UndefinedVar,
    /// Of CMD, ENTRYPOINT and HEALTHCHECK only the last one of a stage counts.
    MultipleInstructionsDisallowed,
    /// `ENV name value`.
    LegacyKeyValueFormat,
    /// `FROM --platform=$TARGETPLATFORM` is what happens anyway.
    RedundantTargetPlatform,
    /// ARG and ENV stay in the image for everybody to read.
    SecretsUsedInArgOrEnv,
    /// A FROM that is no image unless an argument is given.
    InvalidDefaultArgInFrom,
    /// A FROM that is for one platform only.
    FromPlatformFlagConstDisallowed,
    /// A file that `.dockerignore` hides cannot be copied.
    CopyIgnoredFile,
    /// A comment above FROM or ARG that describes something else. Only if asked for.
    InvalidDefinitionDescription,
    /// `EXPOSE 80/TCP`.
    ExposeProtoCasing,
    /// `EXPOSE 127.0.0.1:80:80`: the address and the host's port are not the image's to say.
    ExposeInvalidFormat,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::StageNameCasing,
        Self::FromAsCasing,
        Self::NoEmptyContinuation,
        Self::ConsistentInstructionCasing,
        Self::DuplicateStageName,
        Self::ReservedStageName,
        Self::JSONArgsRecommended,
        Self::MaintainerDeprecated,
        Self::UndefinedArgInFrom,
        Self::WorkdirRelativePath,
        Self::UndefinedVar,
        Self::MultipleInstructionsDisallowed,
        Self::LegacyKeyValueFormat,
        Self::RedundantTargetPlatform,
        Self::SecretsUsedInArgOrEnv,
        Self::InvalidDefaultArgInFrom,
        Self::FromPlatformFlagConstDisallowed,
        Self::CopyIgnoredFile,
        Self::InvalidDefinitionDescription,
        Self::ExposeProtoCasing,
        Self::ExposeInvalidFormat,
    ];

    /// Whether it counts only where `# check=experimental=…` asks for it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants are named as the rules are.
        write!(f, "{self:?}")
    }
}
