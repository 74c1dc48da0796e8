//! From what a user typed to a source. Pure: no I/O, no look at whether anything exists.

use spec::value::Secret;
use std::fmt;
use std::path::PathBuf;

/// Longest address that is looked at; the longest URL in practice is 2 KiB.
const ADDRESS_BYTES_MAX: usize = 4096;

/// A parsed source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    pub(super) place: Place,
    pub(super) site: Option<String>,
    pub(super) access: Access,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Directory(PathBuf),
    Git { address: GitAddress, branch: Option<String>, folder: Option<String> },
}

/// What stands beside the address on the command line.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Branch; the repository's default one if `None`.
    pub branch: Option<String>,
    /// Folder of the repository or below the directory that is the site's root.
    pub path: Option<String>,
    /// Name of the site instead of its address.
    pub site: Option<String>,
    /// Private key for ssh, instead of what ssh's own configuration says.
    pub ssh_key: Option<PathBuf>,
    /// Known hosts for ssh, instead of the user's and the system's.
    pub known_hosts: Option<PathBuf>,
    /// File whose first line is the password or token for http(s).
    pub password_file: Option<PathBuf>,
    /// Accept `http://` to hosts other than this one: whoever is on the way can then change what runs here.
    pub allow_plain_http: bool,
}

/// What a user gave to get in. Files are read at each fetch, so that a renewed token is used at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Private key for ssh.
    pub ssh_key: Option<PathBuf>,
    /// Known hosts for ssh.
    pub known_hosts: Option<PathBuf>,
    /// File with the password or token for http(s).
    pub password_file: Option<PathBuf>,
}

/// Where a repository is.
#[derive(Clone, PartialEq, Eq)]
pub struct GitAddress {
    /// How it is reached.
    pub transport: Transport,
    /// Path on the other side; absolute for all but ssh, where `~…` and paths relative to the home directory exist.
    pub path: String,
}

/// How a repository is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Smart HTTP.
    Http {
        /// With TLS or without.
        tls: bool,
        /// Host, and port if given; an IPv6 address in brackets.
        authority: String,
        /// User of the URL.
        user: Option<String>,
        /// Password of the URL.
        password: Option<Secret>,
    },
    /// The `ssh` program.
    Ssh {
        /// Host name or address, or an alias of ssh's configuration.
        host: String,
        /// Port if given.
        port: Option<u16>,
        /// User if given.
        user: Option<String>,
    },
    /// A repository on this host.
    File,
}

/// Why a text is not a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct AddressError {
    /// What is wrong. Holds no credentials.
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

impl SourceSpec {
    /// Parses `./site`, `https://host/repo.git`, `http://127.0.0.1/repo.git`, `ssh://user@host:22/repo.git`,
    /// `user@host:repo.git` or `file:///srv/repo.git`, with the options beside it.
    pub fn parse(text: &str, options: SourceOptions) -> Result<Self, AddressError> {
        if text.is_empty() || text.len() > ADDRESS_BYTES_MAX || text.contains(|c: char| c.is_control()) {
            return Err(refused("the source is empty, too long or has control characters", "name a directory or a repository"));
        }
        let folder = options.path.as_deref().map(folder).transpose()?.flatten();
        let address = match text.split_once("://") {
            Some((scheme, rest)) => Some(url(scheme, rest, options.allow_plain_http)?),
            None => scp_like(text)?,
        };
        let place = match address {
            Some(address) => Place::Git { address, branch: options.branch.map(branch).transpose()?, folder },
            None if options.branch.is_some() => {
                let hint = format!("write file://… for a repository on this host, or leave --branch away: {text} is a directory");
                return Err(refused("a directory has no branches", hint));
            }
            None => Place::Directory(folder.map_or_else(|| PathBuf::from(text), |folder| PathBuf::from(text).join(folder))),
        };
        let access = Access { ssh_key: options.ssh_key, known_hosts: options.known_hosts, password_file: options.password_file };
        Ok(Self { place, site: options.site, access })
    }
}

impl GitAddress {
    /// The identity of a site: address and folder, without user, password and branch.
    pub(super) fn site(&self, folder: Option<&str>) -> String {
        let base = match &self.transport {
            Transport::Ssh { host, port, .. } => ssh_text(None, host, *port, &self.path),
            Transport::Http { .. } | Transport::File => self.to_string(),
        };
        let base = base.trim_end_matches('/');
        folder.map_or_else(|| base.to_owned(), |folder| format!("{base}//{folder}"))
    }
}

/// As typed, without the credentials of http(s).
impl fmt::Display for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transport {
            Transport::Http { tls, authority, .. } => write!(f, "{}://{authority}{}", if *tls { "https" } else { "http" }, self.path),
            Transport::Ssh { host, port, user } => f.write_str(&ssh_text(user.as_deref(), host, *port, &self.path)),
            Transport::File => write!(f, "file://{}", self.path),
        }
    }
}

impl fmt::Debug for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `ssh://git@host:22/srv/repo.git`; a path relative to the home directory shows as `/~/repo.git`, as Git writes it.
fn ssh_text(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> String {
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let root = match path.as_bytes().first() {
        Some(b'/') => "",
        Some(b'~') => "/",
        _ => "/~/",
    };
    format!("ssh://{user}{host}{port}{root}{path}")
}

fn refused(problem: impl Into<String>, hint: impl Into<String>) -> AddressError {
    AddressError { problem: problem.into(), hint: hint.into() }
}

fn url(scheme: &str, rest: &str, allow_plain_http: bool) -> Result<GitAddress, AddressError> {
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = (&rest[..at], &rest[at..]);
    if path.contains(['?', '#']) {
        return Err(refused("a repository's address has no query or fragment", "name the folder with --path and the branch with --branch"));
    }
    let (userinfo, host_port) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    match scheme {
        "https" | "http" => http(scheme == "https", userinfo, host_port, path, allow_plain_http),
        "ssh" | "git+ssh" => {
            let (host, port) = host_and_port(host_port)?;
            let user = userinfo.map(|info| info.split_once(':').map_or(info, |(user, _)| user));
            let path = path.strip_prefix("/~/").or_else(|| path.strip_prefix('/').filter(|p| p.starts_with('~'))).unwrap_or(path);
            ssh(user, &host, port, path)
        }
        "file" if authority.is_empty() || authority == "localhost" => {
            if path.trim_matches('/').is_empty() {
                return Err(refused("file:// names no repository", "write file:///path/to/repo.git"));
            }
            Ok(GitAddress { transport: Transport::File, path: percent_decoded(path)? })
        }
        "file" => Err(refused("file:// with a host is another machine", "write file:///path/to/repo.git, with three slashes")),
        "git" => Err(refused("git:// has neither encryption nor authentication", "use https:// or ssh://")),
        _ => Err(refused(format!("{scheme:?} is not a known kind of source"), "use https://, ssh://, file:// or a directory")),
    }
}

fn http(tls: bool, userinfo: Option<&str>, authority: &str, path: &str, allow_plain: bool) -> Result<GitAddress, AddressError> {
    let (host, _) = host_and_port(authority)?;
    if !tls && !allow_plain && !is_loopback(&host) {
        let problem = format!("http://{host} is not encrypted: whoever is on the way decides what runs on this host");
        return Err(refused(problem, "use https:// or ssh://, or say --allow-plain-http"));
    }
    if path.trim_matches('/').is_empty() {
        return Err(refused(format!("{host} alone is not a repository"), "add its path: https://host/group/repo.git"));
    }
    let (user, password) = match userinfo.map(|info| info.split_once(':').map_or((info, None), |(user, password)| (user, Some(password)))) {
        Some((user, password)) => (Some(percent_decoded(user)?), password.map(percent_decoded).transpose()?.map(Secret::new)),
        None => (None, None),
    };
    let path = path.trim_end_matches('/').to_owned();
    Ok(GitAddress { transport: Transport::Http { tls, authority: authority.to_ascii_lowercase(), user, password }, path })
}

/// ssh gets host and path as arguments of programs: neither may look like an option (CVE-2017-1000117).
fn ssh(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Result<GitAddress, AddressError> {
    let odd = |text: &str| text.starts_with('-') || text.contains(char::is_whitespace);
    if host.is_empty() || odd(host) || user.is_some_and(|user| user.is_empty() || odd(user)) {
        return Err(refused("the ssh host or user is empty, has spaces or begins with '-'", "write ssh://user@host/path"));
    }
    if path.trim_matches('/').is_empty() || path.starts_with('-') {
        return Err(refused("the path on the ssh host is empty or begins with '-'", "write ssh://user@host/path/repo.git"));
    }
    let transport = Transport::Ssh { host: host.to_owned(), port, user: user.map(str::to_owned) };
    Ok(GitAddress { transport, path: path.to_owned() })
}

/// `user@host:path`: a colon before any slash, as Git decides it. `None` if the text is a path.
fn scp_like(text: &str) -> Result<Option<GitAddress>, AddressError> {
    let bracket_end = text.find(']').filter(|_| text.starts_with('[') || text.contains("@[")).unwrap_or(0);
    let Some(colon) = text[bracket_end..].find(':').map(|at| at + bracket_end) else { return Ok(None) };
    if text[..colon].contains('/') {
        return Ok(None);
    }
    let (user, host) = text[..colon].rsplit_once('@').map_or((None, &text[..colon]), |(user, host)| (Some(user), host));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ssh(user, host, None, &text[colon + 1..]).map(Some)
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), AddressError> {
    let bad = || refused(format!("{text:?} is not a host with an optional port"), "write host, host:port or [::1]:port");
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']').ok_or_else(bad)? {
            (host, "") => (host, None),
            (host, rest) => (host, Some(rest.strip_prefix(':').ok_or_else(bad)?)),
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(bad());
    }
    Ok((host.to_owned(), port.map(|port| port.parse().map_err(|_| bad())).transpose()?))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A folder of the repository: clean, relative, without `..`. `None` for the root itself.
fn folder(text: &str) -> Result<Option<String>, AddressError> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.starts_with('/') || parts.contains(&"..") || text.contains('\0') {
        return Err(refused(format!("--path {text:?} leaves the repository"), "name a folder relative to its root"));
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// A branch by git-check-ref-format(1), as far as it matters to us: it is only ever compared with names the remote sends.
fn branch(text: String) -> Result<String, AddressError> {
    let name = text.strip_prefix("refs/heads/").unwrap_or(&text);
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    if name.is_empty() || name.starts_with(['-', '/']) || name.contains("..") || name.contains(odd) {
        return Err(refused(format!("{text:?} is not a branch name"), "name a branch: --branch main"));
    }
    Ok(name.to_owned())
}

fn percent_decoded(text: &str) -> Result<String, AddressError> {
    let bad = || refused("the address has a broken % escape", "write % as %25");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(bad()) };
        bytes.push(high * 16 + low);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match SourceSpec::parse(text, SourceOptions::default()) {
            Ok(SourceSpec { place: Place::Directory(path), .. }) => format!("directory {}", path.display()),
            Ok(SourceSpec { place: Place::Git { address, .. }, .. }) => format!("{address} path {}", address.path),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn every_kind_of_address_is_known_by_its_form() {
        let cases = [
            ("./site", "directory ./site"),
            ("/srv/a:b", "directory /srv/a:b"),
            ("./a:b", "directory ./a:b"),
            ("https://git.test/shop/site.git", "https://git.test/shop/site.git path /shop/site.git"),
            ("http://127.0.0.1:8080/site.git/", "http://127.0.0.1:8080/site.git path /site.git"),
            ("http://[::1]:8080/site.git", "http://[::1]:8080/site.git path /site.git"),
            ("ssh://git@host:2222/srv/site.git", "ssh://git@host:2222/srv/site.git path /srv/site.git"),
            ("ssh://git@host/~/site.git", "ssh://git@host/~/site.git path site.git"),
            ("ssh://host/~ann/site.git", "ssh://host/~ann/site.git path ~ann/site.git"),
            ("git@host:site.git", "ssh://git@host/~/site.git path site.git"),
            ("host:/srv/site.git", "ssh://host/srv/site.git path /srv/site.git"),
            ("git@[::1]:site.git", "ssh://git@[::1]/~/site.git path site.git"),
            ("file:///srv/site.git", "file:///srv/site.git path /srv/site.git"),
            ("file://localhost/srv/my%20site.git", "file:///srv/my site.git path /srv/my site.git"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        let cases = [
            ("", "error: the source is empty, too long or has control characters"),
            ("git://host/x", "error: git:// has neither encryption nor authentication"),
            ("ftp://host/x", "error: \"ftp\" is not a known kind of source"),
            ("https://host", "error: host alone is not a repository"),
            ("http://git.test/x", "error: http://git.test is not encrypted: whoever is on the way decides what runs on this host"),
            ("https://host/x?a=b", "error: a repository's address has no query or fragment"),
            ("https://host:port/x", "error: \"host:port\" is not a host with an optional port"),
            ("ssh://-oProxyCommand/x", "error: the ssh host or user is empty, has spaces or begins with '-'"),
            ("-oProxyCommand=true:x", "error: the ssh host or user is empty, has spaces or begins with '-'"),
            ("host:-x", "error: the path on the ssh host is empty or begins with '-'"),
            ("file://other/x", "error: file:// with a host is another machine"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text).split(" = ").next(), Some(expected), "{text}");
        }
    }

    #[test]
    fn plain_http_elsewhere_needs_a_word() {
        let options = SourceOptions { allow_plain_http: true, ..SourceOptions::default() };
        assert!(SourceSpec::parse("http://git.test/x", options).is_ok());
    }

    #[test]
    fn credentials_are_parsed_and_never_shown() {
        let spec = SourceSpec::parse("https://ann:p%40ss@host/x", SourceOptions::default()).unwrap();
        let Place::Git { address, .. } = &spec.place else { panic!("not git") };
        let Transport::Http { user, password, .. } = &address.transport else { panic!("not http") };
        assert_eq!(user.as_deref(), Some("ann"));
        assert_eq!(password.as_ref().map(Secret::reveal), Some("p@ss"));
        for text in [format!("{spec:?}"), address.to_string(), address.site(None)] {
            assert!(!text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
        }
    }

    #[test]
    fn a_site_is_known_by_address_and_folder_whatever_the_branch_or_user() {
        let site = |text: &str, path: &str, branch: &str| {
            let options = SourceOptions { path: Some(path.into()), branch: Some(branch.into()), ..SourceOptions::default() };
            match SourceSpec::parse(text, options).unwrap().place {
                Place::Git { address, folder, .. } => address.site(folder.as_deref()),
                Place::Directory(path) => path.display().to_string(),
            }
        };
        assert_eq!(site("https://ann@host/x.git", "hosts/web/", "main"), "https://host/x.git//hosts/web");
        assert_eq!(site("https://host/x.git", "./hosts//web", "next"), "https://host/x.git//hosts/web");
        assert_eq!(site("git@host:x.git", ".", "next"), "ssh://host/~/x.git");
    }

    #[test]
    fn folders_and_branches_stay_inside() {
        let parse = |path: Option<&str>, branch: Option<&str>| {
            let options = SourceOptions { path: path.map(str::to_owned), branch: branch.map(str::to_owned), ..SourceOptions::default() };
            SourceSpec::parse("https://host/x", options).map_err(|error| error.problem)
        };
        assert_eq!(parse(Some("../x"), None), Err("--path \"../x\" leaves the repository".into()));
        assert_eq!(parse(Some("/x"), None), Err("--path \"/x\" leaves the repository".into()));
        assert_eq!(parse(None, Some("-x")), Err("\"-x\" is not a branch name".into()));
        assert_eq!(parse(None, Some("a..b")), Err("\"a..b\" is not a branch name".into()));
        assert!(parse(None, Some("feature/x")).is_ok());
    }

    #[test]
    fn a_directory_has_no_branch() {
        let options = SourceOptions { branch: Some("main".into()), ..SourceOptions::default() };
        assert_eq!(SourceSpec::parse("./site", options).unwrap_err().problem, "a directory has no branches");
    }
}
