//! `user[:group]` to numbers, with the names of the image's own files.

use super::error::StepError;
use super::tree::{Owner, Root};

/// Largest passwd or group file read: a directory service's full dump stays below.
const ACCOUNTS_BYTES_MAX: u64 = 16 << 20;

/// Looks up `user[:group]` beneath a root. A user's group is its own by name; a number alone is both user and group. As in BuildKit
/// `root` is 0 whatever the image's files say, and so is what is left out beside the colon.
pub(crate) fn lookup(root: &Root, text: &str) -> Result<Owner, StepError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let by_user = match number(user)? {
        Some(id) => Owner { user: id, group: id },
        None => {
            let line = account(root, "/etc/passwd", user)?;
            let missing = || StepError::Invalid(format!("there is no user {user:?} in /etc/passwd of the image"));
            let fields: Vec<u32> = line.ok_or_else(missing)?.split(':').skip(2).take(2).map_while(|id| id.parse().ok()).collect();
            let [user, group] = fields.as_slice() else { return Err(missing()) };
            Owner { user: *user, group: *group }
        }
    };
    let group = match group {
        None => by_user.group,
        Some(group) => match number(group)? {
            Some(id) => id,
            None => {
                let line = account(root, "/etc/group", group)?;
                let id = line.and_then(|line| line.split(':').nth(2)?.parse().ok());
                id.ok_or_else(|| StepError::Invalid(format!("there is no group {group:?} in /etc/group of the image")))?
            }
        },
    };
    Ok(Owner { group, ..by_user })
}

/// The number that a text is; `None` if it is a name.
fn number(text: &str) -> Result<Option<u32>, StepError> {
    if matches!(text, "" | "root") {
        return Ok(Some(0));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // A number beyond 2^31 - 1 wraps to something else in too many programs (CVE-2024-40635).
    let id = text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
    id.map(Some).ok_or_else(|| StepError::Invalid(format!("user or group number {text} is above 2147483647")))
}

/// The line of a name.
fn account(root: &Root, file: &str, name: &str) -> Result<Option<String>, StepError> {
    let bytes = root.read(file.as_bytes(), ACCOUNTS_BYTES_MAX)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().find(|line| line.split(':').next() == Some(name)).map(str::to_owned))
}
