//! Environment and arguments as exec wants them, and where a program may lie. Pure.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;

/// Where programs are looked for if the image does not say: Docker's default.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything exec needs.
#[derive(Debug)]
pub(super) struct Program {
    /// As it was asked for.
    pub(super) name: String,
    /// Where it may lie, in the order to be tried.
    pub(super) candidates: Vec<CString>,
    pub(super) args: Vec<CString>,
    pub(super) env: Vec<CString>,
}

impl Program {
    /// Errors: no program, or a NUL byte in an argument or variable.
    pub(super) fn new(args: &[String], env: &BTreeMap<String, String>) -> io::Result<Self> {
        let name = args.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program is given"))?;
        let path = env.get("PATH").map_or("", String::as_str);
        Ok(Self {
            name: name.clone(),
            candidates: candidates(name, path).map(CString::new).collect::<Result<_, _>>()?,
            args: args.iter().map(|arg| CString::new(arg.as_bytes())).collect::<Result<_, _>>()?,
            env: env.iter().map(|(name, value)| CString::new(format!("{name}={value}"))).collect::<Result<_, _>>()?,
        })
    }
}

/// Adds what every program expects and nobody has set.
pub(super) fn complete(env: &BTreeMap<String, String>, home: &str, hostname: Option<&str>, has_terminal: bool) -> BTreeMap<String, String> {
    let mut env = env.clone();
    let hostname = hostname.map(|name| ("HOSTNAME", name));
    let terminal = has_terminal.then_some(("TERM", "xterm"));
    for (name, value) in [("PATH", PATH), ("HOME", home)].into_iter().chain(hostname).chain(terminal) {
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    env
}

fn candidates<'a>(name: &'a str, path: &'a str) -> impl Iterator<Item = String> + 'a {
    let as_is = name.contains('/').then(|| name.to_owned());
    // An empty part of PATH would mean the working directory; nobody who writes `a::b` wants that in a container.
    let directories = if as_is.is_some() { "" } else { path };
    let found = directories.split(':').filter(|directory| !directory.is_empty()).map(move |directory| format!("{directory}/{name}"));
    as_is.into_iter().chain(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_for_along_the_path() {
        assert_eq!(candidates("sh", "/a::/b").collect::<Vec<_>>(), ["/a/sh", "/b/sh"]);
        assert_eq!(candidates("./sh", "/a").collect::<Vec<_>>(), ["./sh"]);
        assert_eq!(candidates("sh", "").count(), 0);
    }

    #[test]
    fn what_is_set_is_kept() {
        let env = complete(&BTreeMap::from([("HOME".to_owned(), "/x".to_owned())]), "/root", Some("web"), true);
        let shown: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["HOME=/x", "HOSTNAME=web", &format!("PATH={PATH}"), "TERM=xterm"]);
    }

    #[test]
    fn nul_bytes_and_nothing_are_refused() {
        assert!(Program::new(&["a\0b".into()], &BTreeMap::new()).is_err());
        assert!(Program::new(&[], &BTreeMap::new()).is_err());
        assert!(Program::new(&[String::new()], &BTreeMap::new()).is_err());
    }
}
