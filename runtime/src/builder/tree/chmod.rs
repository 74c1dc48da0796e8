//! `--chmod`: octal, or symbolic as chmod(1) has it, with no umask. Pure.
//!
//! ```text
//! clause ["," clause]…    clause = [ugoa…] (op perms)…    op = + | - | =    perms = [rwxXst…] or one of u g o
//! ```
//! No letter before the operator means all three, as BuildKit reads it: the result does not depend on a umask of the builder's.

/// Which bits the copies get, symbolic links excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// Those of the source.
    Keep,
    /// These.
    Set(u32),
    /// Those of the source after these changes, one after the other.
    Change(Vec<Change>),
}

/// One operator with what it acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Bits that may change: `0o700` for the user and so on.
    who: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Assign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    /// `rwx` as bits 4, 2, 1, with `X`, `s` and `t`.
    Bits { rwx: u32, execute_if_any: bool, set_id: bool, sticky: bool },
    /// What the user, the group or others have: how far to shift right.
    CopyOf(u32),
}

impl Chmod {
    /// Reads the flag's value. `Err` says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Set).ok_or_else(|| format!("--chmod={text} is not octal between 0 and 07777"));
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes).ok_or_else(|| format!("--chmod={text}: {clause:?} is not a mode: 0644 or u=rwX,go=rX"))?;
        }
        Ok(Self::Change(changes))
    }

    /// The permission bits of a copy.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Keep => mode & 0o7777,
            Self::Set(mode) => *mode,
            Self::Change(changes) => {
                let executable = is_directory || mode & 0o111 != 0;
                changes.iter().fold(mode & 0o7777, |mode, change| change.apply(mode, executable))
            }
        }
    }
}

impl Change {
    /// `executable` is what `X` asks for: what the source is, whatever earlier clauses made of it.
    fn apply(&self, mode: u32, executable: bool) -> u32 {
        let spread = |rwx: u32| (rwx << 6 | rwx << 3 | rwx) & self.who;
        // Beside its own bits a class has set-user-id or set-group-id, and all but others may say `t`.
        let (user, group) = (if self.who & 0o700 != 0 { 0o4000 } else { 0 }, if self.who & 0o070 != 0 { 0o2000 } else { 0 });
        let (bits, assigned) = match self.permissions {
            Permissions::CopyOf(shift) => (spread(mode >> shift & 7), self.who),
            Permissions::Bits { rwx, execute_if_any, set_id, sticky } => {
                let sticky = if sticky && self.who & 0o770 != 0 { 0o1000 } else { 0 };
                let set_id = if set_id { user | group } else { 0 };
                (spread(rwx | u32::from(execute_if_any && executable)) | set_id | sticky, self.who | user | group | sticky)
            }
        };
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Assign => mode & !assigned | bits,
        }
    }
}

fn parse_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let letters = clause.find(['+', '-', '=']).filter(|at| clause[..*at].bytes().all(|byte| b"ugoa".contains(&byte)))?;
    let who = clause[..letters].bytes().fold(0, |who, letter| {
        who | match letter {
            b'u' => 0o700,
            b'g' => 0o070,
            b'o' => 0o007,
            _ => 0o777,
        }
    });
    let who = if letters == 0 { 0o777 } else { who };
    let mut rest = &clause[letters..];
    while let Some(first) = rest.chars().next() {
        let operator = match first {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Assign,
            _ => return None,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        changes.push(Change { who, operator, permissions: permissions(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(())
}

fn permissions(text: &str) -> Option<Permissions> {
    match text {
        "u" => return Some(Permissions::CopyOf(6)),
        "g" => return Some(Permissions::CopyOf(3)),
        "o" => return Some(Permissions::CopyOf(0)),
        _ => {}
    }
    let (mut rwx, mut execute_if_any, mut set_id, mut sticky) = (0, false, false, false);
    for letter in text.chars() {
        match letter {
            'r' => rwx |= 4,
            'w' => rwx |= 2,
            'x' => rwx |= 1,
            'X' => execute_if_any = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(Permissions::Bits { rwx, execute_if_any, set_id, sticky })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let cases = [
            ("0644", 0o4755, 0o644, 0o644),
            ("7", 0o777, 0o007, 0o007),
            ("u=rwX,go=rX", 0o640, 0o644, 0o755),
            ("u=rwX,go=rX", 0o700, 0o755, 0o755),
            ("a+x", 0o644, 0o755, 0o755),
            ("+x", 0o600, 0o711, 0o711),
            ("+w", 0o444, 0o666, 0o666),
            ("go-w", 0o666, 0o644, 0o644),
            ("g=u", 0o750, 0o770, 0o770),
            ("o=g-w", 0o670, 0o675, 0o675),
            ("u+s,g+s,+t", 0o755, 0o7755, 0o7755),
            ("u=rw", 0o4755, 0o655, 0o655),
            ("u=g", 0o4750, 0o4550, 0o4550),
            ("a=r", 0o7750, 0o1444, 0o1444),
            ("o=,o+t", 0o1757, 0o1750, 0o1750),
            ("ug=t", 0o750, 0o1000, 0o1000),
            ("a-x+X", 0o754, 0o755, 0o755),
            ("a=", 0o777, 0, 0),
            ("u=r,u+w", 0o100, 0o600, 0o600),
            ("g+X", 0o644, 0o644, 0o654),
            ("ug=rw,o=", 0o777, 0o660, 0o660),
        ];
        for (text, mode, file, directory) in cases {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(chmod.apply(mode, false), file, "{text} of a file {mode:o}");
            assert_eq!(chmod.apply(mode, true), directory, "{text} of a directory {mode:o}");
        }
        for text in ["", "8", "10000", "x", "u", "u=z", "u=rw,", "q+x", "u+ru", "644x", "-1"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
