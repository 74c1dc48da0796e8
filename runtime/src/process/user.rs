//! Who a program runs as: looked up in the container's own /etc/passwd and /etc/group, as Docker does. The lookup is pure.

use super::error::{During, StartError, Step};
use crate::rootfs::Root;
use spec::value::UserSpec;
use std::collections::BTreeSet;
use std::io;

/// Largest account file that is read: some 100,000 accounts.
const ACCOUNT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most groups one process may have, NGROUPS_MAX.
const GROUPS_MAX: usize = 65_536;

/// Numbers and home of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) group: u32,
    /// Supplementary groups, the user's own one first: as containerd and BuildKit, so that a program which sets its group id cannot
    /// rid itself of a group that a file's mode shuts out (CVE-2022-36109, CVE-2023-25173).
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Reads the account files beneath the root and looks the user up; root if none is named.
pub(super) fn read(root: &Root, spec: Option<&UserSpec>) -> Result<Identity, StartError> {
    let file = |path: &str| root.read_file(path, ACCOUNT_BYTES_MAX).map(Option::unwrap_or_default).during(Step::LookUpUser, path);
    let (passwd, group) = (file("/etc/passwd")?, file("/etc/group")?);
    let shown = spec.map_or_else(|| "0".to_owned(), ToString::to_string);
    look_up(spec, &passwd, &group).map_err(|problem| io::Error::new(io::ErrorKind::NotFound, problem)).during(Step::LookUpUser, shown)
}

struct Account<'a> {
    name: &'a str,
    id: u32,
    group: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    id: u32,
    members: &'a str,
}

/// The rules: a name must exist; a number need not. Without a group, the user's own one and all that list the user; with one, just that.
fn look_up(spec: Option<&UserSpec>, passwd: &str, group: &str) -> Result<Identity, String> {
    let wanted = spec.map_or("0", |spec| spec.user.as_str());
    let number = parse_id(wanted);
    // A name of digits is a name first, a number second.
    let account =
        accounts(passwd).find(|account| account.name == wanted).or_else(|| accounts(passwd).find(|account| Some(account.id) == number));
    let user = match (&account, number) {
        (Some(account), _) => account.id,
        (None, Some(number)) => number,
        (None, None) => return Err(format!("no user {wanted} in /etc/passwd of the container")),
    };
    let home = account.as_ref().map_or("/", |account| account.home);
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    if let Some(wanted) = spec.and_then(|spec| spec.group.as_deref()) {
        let known = groups(group).find(|group| group.name == wanted).map(|group| group.id);
        let group = known.or_else(|| parse_id(wanted));
        let group = group.ok_or_else(|| format!("no group {wanted} in /etc/group of the container"))?;
        return Ok(Identity { user, group, groups: vec![group], home });
    }
    let Some(account) = account else { return Ok(Identity { user, group: 0, groups: vec![0], home }) };
    let lists_user = |group: &Group<'_>| group.members.split(',').any(|member| member == account.name);
    let listed: BTreeSet<u32> = groups(group).filter(lists_user).map(|group| group.id).filter(|id| *id != account.group).collect();
    let groups = [account.group].into_iter().chain(listed).take(GROUPS_MAX).collect();
    Ok(Identity { user, group: account.group, groups, home })
}

/// Lines that are not accounts are passed over, as the C library does.
fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id, group) = (fields.next()?, parse_id(fields.nth(1)?)?, parse_id(fields.next()?)?);
        let home = fields.nth(1)?;
        (!name.is_empty() && fields.next().is_some()).then_some(Account { name, id, group, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id, members) = (fields.next()?, parse_id(fields.nth(1)?)?, fields.next()?);
        (!name.is_empty()).then_some(Group { name, id, members })
    })
}

/// Digits only, and nothing that wraps in programs that keep ids in an `int` (CVE-2024-40635).
fn parse_id(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<i32>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\n\n+:x:a:b\nweb:x:33:34:,:/srv/web:/bin/false\n1000:x:77:78::/seven:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:root,web\nssl:x:90:web,other\nwebby:x:91:webb\nweb:x:34:\n";

    fn shown(spec: &str) -> String {
        let spec: Option<UserSpec> = (!spec.is_empty()).then(|| spec.parse().unwrap());
        match look_up(spec.as_ref(), PASSWD, GROUP) {
            Ok(Identity { user, group, groups, home }) => format!("{user}:{group} {groups:?} {home}"),
            Err(problem) => problem,
        }
    }

    #[test]
    fn names_bring_their_groups_and_home() {
        assert_eq!(shown("web"), "33:34 [34, 4, 90] /srv/web");
        assert_eq!(shown("33"), "33:34 [34, 4, 90] /srv/web");
        assert_eq!(shown(""), "0:0 [0, 4] /root");
    }

    #[test]
    fn a_named_group_replaces_all_others() {
        assert_eq!(shown("web:adm"), "33:4 [4] /srv/web");
        assert_eq!(shown("web:12345"), "33:12345 [12345] /srv/web");
    }

    #[test]
    fn a_number_needs_no_account() {
        assert_eq!(shown("4242"), "4242:0 [0] /");
    }

    #[test]
    fn a_name_of_digits_is_a_name() {
        assert_eq!(shown("1000"), "77:78 [78] /seven");
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(shown("nobody"), "no user nobody in /etc/passwd of the container");
        assert_eq!(shown("web:none"), "no group none in /etc/group of the container");
    }

    #[test]
    fn ids_that_wrap_are_no_ids() {
        assert_eq!(parse_id("2147483648"), None);
        assert_eq!(parse_id("-1"), None);
        assert_eq!(parse_id("+1"), None);
        assert_eq!(parse_id(""), None);
        let passwd = "evil:x:4294967296:0::/:/bin/sh\n";
        assert!(look_up(Some(&"evil".parse().unwrap()), passwd, "").is_err());
    }
}
