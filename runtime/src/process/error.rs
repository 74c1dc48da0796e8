//! Why a process could not be started: the step, what it was done to, and the system's reason. Crosses from the init stage as one message.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// What was being done when a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Making or entering the control group.
    Cgroup,
    /// Making a new process in namespaces of its own.
    Clone,
    /// Entering namespaces that exist.
    EnterNamespace,
    /// Mapping the ids of a user namespace.
    MapIds,
    /// Talking with the init stage.
    Handshake,
    /// Putting the layers together to a root file system.
    Overlay,
    /// Writing the generated files of `/etc`.
    WriteFile,
    /// Opening the source of a bind mount.
    OpenSource,
    /// Making `/` the container's own.
    PivotRoot,
    /// Mounting something.
    Mount,
    /// Filling an empty volume from the image.
    CopyUp,
    /// Making a device node.
    Device,
    /// Hiding a path of the kernel's file systems, or making it read-only.
    Mask,
    /// Setting a kernel parameter of the container's namespaces.
    Sysctl,
    /// Bringing up the loopback link.
    Loopback,
    /// Setting the host name.
    Hostname,
    /// Opening or giving out the terminal.
    Terminal,
    /// Placing standard input, output and error.
    Stdio,
    /// Setting a resource limit.
    ResourceLimit,
    /// Finding the user in the container's own files.
    LookUpUser,
    /// Becoming the user.
    BecomeUser,
    /// Making or entering the working directory.
    WorkingDirectory,
    /// Dropping capabilities.
    Capabilities,
    /// Loading the system call filter.
    Seccomp,
    /// Running the program.
    Exec,
}

/// A failed start: nothing of it is left but the control group, which its owner removes.
#[derive(Debug, thiserror::Error)]
#[error("{step}{}{object}", if .object.is_empty() { "" } else { " " })]
pub struct StartError {
    /// What was tried.
    pub step: Step,
    /// On what: a path, a user, a program.
    pub object: String,
    /// Why it did not work.
    #[source]
    pub source: io::Error,
}

impl StartError {
    /// The exit status Docker gives a container that could not be started: 127 for a program that is not there, 126 for one that
    /// cannot be run, 128 for everything before it.
    pub fn exit_code(&self) -> i32 {
        if self.step != Step::Exec {
            return 128;
        }
        match self.source.raw_os_error() {
            Some(libc::ENOENT) => 127,
            Some(_) | None => 126,
        }
    }
}

/// Says what was tried on what, where the system only says why not.
pub(crate) trait During<T> {
    /// The error with its step and object.
    fn during(self, step: Step, object: impl fmt::Display) -> Result<T, StartError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: Step, object: impl fmt::Display) -> Result<T, StartError> {
        self.map_err(|source| StartError { step, object: object.to_string(), source: source.into() })
    }
}

/// A failure as it crosses from the init stage to whoever started it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    step: Step,
    object: String,
    errno: Option<i32>,
    text: String,
}

impl From<&StartError> for Message {
    fn from(error: &StartError) -> Self {
        let text = error.source.to_string();
        Self { step: error.step, object: error.object.clone(), errno: error.source.raw_os_error(), text }
    }
}

impl From<Message> for StartError {
    fn from(message: Message) -> Self {
        let source = message.errno.map_or_else(|| io::Error::other(message.text), io::Error::from_raw_os_error);
        Self { step: message.step, object: message.object, source }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cgroup => "prepare control group",
            Self::Clone => "clone",
            Self::EnterNamespace => "enter namespace",
            Self::MapIds => "map ids",
            Self::Handshake => "talk with the init stage",
            Self::Overlay => "mount overlay",
            Self::WriteFile => "write",
            Self::OpenSource => "open mount source",
            Self::PivotRoot => "pivot root",
            Self::Mount => "mount",
            Self::CopyUp => "fill volume from",
            Self::Device => "make device",
            Self::Mask => "mask",
            Self::Sysctl => "set sysctl",
            Self::Loopback => "bring up loopback",
            Self::Hostname => "set host name",
            Self::Terminal => "open terminal",
            Self::Stdio => "place standard streams",
            Self::ResourceLimit => "set resource limit",
            Self::LookUpUser => "look up user",
            Self::BecomeUser => "become user",
            Self::WorkingDirectory => "enter working directory",
            Self::Capabilities => "set capabilities",
            Self::Seccomp => "load seccomp filter",
            Self::Exec => "exec",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_crossing() {
        let error = StartError { step: Step::Exec, object: "/bin/nope".into(), source: io::Error::from_raw_os_error(libc::ENOENT) };
        let sent = serde_json::to_vec(&Message::from(&error)).unwrap();
        let received = StartError::from(serde_json::from_slice::<Message>(&sent).unwrap());
        assert_eq!(received.to_string(), "exec /bin/nope");
        assert_eq!(received.exit_code(), 127);
    }

    #[test]
    fn exit_codes_are_dockers() {
        let code = |step, errno| StartError { step, object: String::new(), source: io::Error::from_raw_os_error(errno) }.exit_code();
        assert_eq!(code(Step::Exec, libc::EACCES), 126);
        assert_eq!(code(Step::Exec, libc::ENOENT), 127);
        assert_eq!(code(Step::Mount, libc::ENOENT), 128);
    }
}
