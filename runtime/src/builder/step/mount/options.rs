//! The text of a `--mount` read. Pure.

use super::{Access, Mount};
use crate::builder::cache_mount::Sharing;
use crate::builder::error::StepError;
use crate::builder::state::State;
use crate::builder::tree::Owner;
use crate::builder::words::Lexer;
use spec::value::{ByteSize, MountTarget};

/// Where secrets are found if nothing else is said.
const SECRETS: &str = "/run/secrets";

/// Reads a `--mount`. `position` is its place among the mounts of its instruction: sockets without a target are told apart by it.
pub(crate) fn parse(text: &str, position: usize, state: &State, lexer: &Lexer) -> Result<Mount, StepError> {
    let invalid = |problem: String| StepError::Invalid(format!("--mount={text}: {problem}"));
    let mut options = Options::default();
    for option in text.split(',') {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let name = name.to_ascii_lowercase();
        // A stage's name is needed before any variable is known.
        let value = match name.as_str() {
            "from" if value.is_some_and(|value| value.contains('$')) => {
                return Err(invalid("from takes no variables: give the image a stage of its own and name that".to_owned()));
            }
            "from" => value.map(str::to_owned),
            _ => value.map(|value| state.word(lexer, value)).transpose()?,
        };
        options.set(&name, value).map_err(invalid)?;
    }
    let kind = options.kind.clone().unwrap_or_else(|| "bind".to_owned());
    options.belong(&kind).map_err(invalid)?;
    let absolute = |target: &str| {
        let target = state.absolute(target);
        target.trim_end_matches('/').parse::<MountTarget>().map_err(|error| invalid(error.to_string()))
    };
    // As BuildKit: nothing said is the working directory.
    let target = || absolute(options.target.as_deref().unwrap_or("."));
    Ok(match kind.as_str() {
        "tmpfs" => Mount::Tmpfs { target: target()?, size: options.size, writable: options.writable.unwrap_or(true) },
        "cache" => {
            let target = target()?;
            let id = options.id.clone().unwrap_or_else(|| target.to_string());
            let source = options.source.clone().unwrap_or_else(|| "/".to_owned());
            let (access, sharing) = (options.access(0o755), options.sharing.unwrap_or(Sharing::Shared));
            Mount::Cache { target, id, access, sharing, from: options.from.clone(), source, writable: options.writable.unwrap_or(true) }
        }
        "secret" => {
            if options.id.is_some() && options.source.is_some() {
                return Err(invalid("id and source are two names for the same: say one".to_owned()));
            }
            let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
            let named = options.id.clone().or_else(|| options.source.clone()).or_else(|| options.target.as_deref().map(base));
            let id = named.ok_or_else(|| invalid("it needs an id=… or a target=…".to_owned()))?;
            let target = match (&options.target, &options.variable) {
                (Some(target), _) => Some(absolute(target)?),
                (None, Some(_)) => None,
                (None, None) => Some(absolute(&format!("{SECRETS}/{}", base(&id)))?),
            };
            let access = options.access(0o400);
            Mount::Secret { id, target, variable: options.variable.clone(), access, required: options.required }
        }
        "ssh" => {
            let default = format!("/run/buildkit/ssh_agent.{position}");
            let target = absolute(options.target.as_deref().unwrap_or(&default))?;
            let id = options.id.clone().or_else(|| options.source.clone()).unwrap_or_else(|| "default".to_owned());
            Mount::Ssh { id, target, access: options.access(0o600), required: options.required }
        }
        // The only one left that `belong` lets pass.
        _ => {
            let source = options.source.clone().unwrap_or_else(|| "/".to_owned());
            Mount::Bind { target: target()?, from: options.from.clone(), source, writable: options.writable.unwrap_or(false) }
        }
    })
}

#[derive(Default)]
struct Options {
    kind: Option<String>,
    target: Option<String>,
    source: Option<String>,
    from: Option<String>,
    id: Option<String>,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    user: Option<u32>,
    group: Option<u32>,
    size: Option<ByteSize>,
    variable: Option<String>,
    relabel: bool,
    writable: Option<bool>,
    required: bool,
}

impl Options {
    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let switch = |value: &Option<String>| match value.as_deref() {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(format!("{name} is true or false, not {other:?}")),
        };
        let text = |value: Option<String>| value.ok_or_else(|| format!("{name} needs a value"));
        let number = |value: Option<String>| {
            let value = text(value)?;
            value.parse().map_err(|_| format!("{name}={value} is not a number"))
        };
        match name {
            "type" => self.kind = Some(text(value)?.to_ascii_lowercase()),
            "target" | "dst" | "destination" => self.target = Some(text(value)?),
            "source" | "src" => self.source = Some(text(value)?),
            "from" => self.from = Some(text(value)?).filter(|from| !from.is_empty()),
            "id" => self.id = Some(text(value)?),
            "sharing" => match text(value)?.to_ascii_lowercase().as_str() {
                "shared" => self.sharing = Some(Sharing::Shared),
                "private" => self.sharing = Some(Sharing::Private),
                "locked" => self.sharing = Some(Sharing::Locked),
                other => return Err(format!("sharing is shared, locked or private, not {other:?}")),
            },
            "mode" => {
                let value = text(value)?;
                self.mode = Some(u32::from_str_radix(&value, 8).map_err(|_| format!("mode={value} is not octal"))? & 0o7777);
            }
            "uid" => self.user = Some(number(value)?),
            "gid" => self.group = Some(number(value)?),
            "size" => self.size = Some(text(value)?.parse().map_err(|error: spec::value::ValueError| error.to_string())?),
            "readwrite" | "rw" => self.writable = Some(switch(&value)?),
            "readonly" | "ro" => self.writable = Some(!switch(&value)?),
            "required" => self.required = switch(&value)?,
            "env" => self.variable = Some(text(value)?),
            // Of podman's: labels of SELinux, of which no file here has one of its own.
            "z" | "relabel" => self.relabel = true,
            _ => return Err(format!("there is no option {name:?}")),
        }
        Ok(())
    }

    /// Refuses what a kind of mount does not have, as BuildKit does.
    fn belong(&self, kind: &str) -> Result<(), String> {
        if !matches!(kind, "bind" | "cache" | "tmpfs" | "secret" | "ssh") {
            return Err(format!("type is bind, cache, tmpfs, secret or ssh, not {kind:?}"));
        }
        let given = [
            ("from", self.from.is_some(), &["bind", "cache"][..]),
            ("sharing", self.sharing.is_some(), &["cache"]),
            ("mode", self.mode.is_some(), &["cache", "secret", "ssh"]),
            ("uid", self.user.is_some(), &["cache", "secret", "ssh"]),
            ("gid", self.group.is_some(), &["cache", "secret", "ssh"]),
            ("size", self.size.is_some(), &["tmpfs"]),
            ("env", self.variable.is_some(), &["secret"]),
            ("required", self.required, &["secret", "ssh"]),
            ("z", self.relabel, &["bind", "cache"]),
        ];
        match given.iter().find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            Some((name, ..)) => Err(format!("a mount of type {kind} has no {name}")),
            None => Ok(()),
        }
    }

    fn access(&self, mode: u32) -> Access {
        let owner = Owner { user: self.user.unwrap_or(0), group: self.group.unwrap_or(0) };
        Access { mode: self.mode.unwrap_or(mode), owner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Mount, String> {
        let mut state = State::scratch();
        state.config.config.working_dir = "/w".to_owned();
        state.scope.set("V".to_owned(), "v".to_owned());
        parse(text, 2, &state, &Lexer::new('\\')).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said() {
        let secret = |id: &str, target: Option<&str>, variable: Option<&str>, mode| Mount::Secret {
            id: id.to_owned(),
            target: target.map(|target| target.parse().expect("a target")),
            variable: variable.map(str::to_owned),
            access: Access { mode, owner: Owner::ROOT },
            required: false,
        };
        assert_eq!(parsed("type=secret,id=a"), Ok(secret("a", Some("/run/secrets/a"), None, 0o400)));
        assert_eq!(parsed("type=secret,target=/x/$V"), Ok(secret("v", Some("/x/v"), None, 0o400)));
        assert_eq!(parsed("type=secret,id=a/b,env=B"), Ok(secret("a/b", None, Some("B"), 0o400)));
        assert_eq!(parsed("type=secret,id=a,env=B,target=c,mode=0444"), Ok(secret("a", Some("/w/c"), Some("B"), 0o444)));
        let ssh = |id: &str, target: &str, mode, user| {
            let access = Access { mode, owner: Owner { user, group: 0 } };
            Mount::Ssh { id: id.to_owned(), target: target.parse().expect("a target"), access, required: true }
        };
        assert_eq!(parsed("type=ssh,required"), Ok(ssh("default", "/run/buildkit/ssh_agent.2", 0o600, 0)));
        assert_eq!(parsed("type=ssh,id=x,dst=/s,required=true,uid=5,mode=660"), Ok(ssh("x", "/s", 0o660, 5)));
        let bind =
            |target: &str| Mount::Bind { target: target.parse().expect("a target"), from: None, source: "/".to_owned(), writable: false };
        assert_eq!(parsed("target=t/"), Ok(bind("/w/t")));
        assert_eq!(parsed("type=bind,Z"), Ok(bind("/w")));
        let memory = |size: &str, writable| {
            let size = size.parse().ok();
            Mount::Tmpfs { target: "/w".parse().expect("a target"), size, writable }
        };
        assert_eq!(parsed("type=tmpfs,size=1.5g"), Ok(memory("1536Mi", true)));
        assert_eq!(parsed("type=tmpfs,readonly=True"), Ok(memory("", false)));
        let Ok(Mount::Cache { id, sharing: Sharing::Private, writable: false, .. }) = parsed("type=cache,dst=/c,sharing=private,ro") else {
            panic!("a cache");
        };
        assert_eq!(id, "/c");
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            ("type=secret", "it needs an id=… or a target=…"),
            ("type=secret,id=a,source=b", "id and source are two names for the same: say one"),
            ("type=tmpfs,target=/x,z", "a mount of type tmpfs has no z"),
            ("target=/x,ro=maybe", "ro is true or false, not \"maybe\""),
            ("type=tmpfs,target=/x,mode=1777", "a mount of type tmpfs has no mode"),
            ("target=/x,uid=1", "a mount of type bind has no uid"),
            ("type=secret,id=a,from=b", "a mount of type secret has no from"),
            ("type=cache,target=/x,size=1g", "a mount of type cache has no size"),
            ("target=/x,sharing=locked", "a mount of type bind has no sharing"),
            ("type=cache,target=/x,sharing=other", "sharing is shared, locked or private, not \"other\""),
            ("target=/x,from=$V", "from takes no variables: give the image a stage of its own and name that"),
            ("type=volume,target=/x", "type is bind, cache, tmpfs, secret or ssh, not \"volume\""),
            ("target=/x,nonsense=1", "there is no option \"nonsense\""),
            ("type=cache,target=/x,mode=9", "mode=9 is not octal"),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), Err(format!("--mount={text}: {expected}")));
        }
        assert!(parsed("target=/").is_err(), "the root cannot be mounted over");
    }
}
