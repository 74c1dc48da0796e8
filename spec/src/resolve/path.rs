//! Paths in manifests: relative to the file that names them, never out of the site.

use crate::value::ValueError;

/// A path relative to the site's root, from one written in `file` (itself relative to the root): normalised, `.` for the
/// root itself. Errors: it is absolute, empty, leads out of the site, or has a NUL byte.
pub(super) fn relative_to(file: &str, written: &str) -> Result<String, ValueError> {
    if written.starts_with('/') {
        let hint = "write a path relative to this manifest, such as ./conf";
        return Err(ValueError::with_hint(format!("{written:?} is absolute: only files of the site can be used here"), hint));
    }
    if written.starts_with('~') {
        return Err(ValueError::with_hint(format!("{written:?}: ~ is not expanded"), "write the whole path"));
    }
    if written.is_empty() || written.contains('\0') {
        return Err(ValueError::new(format!("{written:?} is not a path")));
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| ValueError::new(format!("{written:?} leads out of the site")))?;
            }
            name => parts.push(name),
        }
    }
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// An absolute path of the host: normalised, without `..`.
pub(super) fn absolute(written: &str) -> Result<String, ValueError> {
    if written.contains('\0') || written.split('/').any(|part| part == "..") {
        return Err(ValueError::new(format!("host path {written:?} contains '..' or a NUL byte")));
    }
    let parts: Vec<_> = written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative(file: &str, written: &str) -> String {
        relative_to(file, written).unwrap_or_else(|error| format!("! {error}"))
    }

    #[test]
    fn a_path_is_relative_to_the_file_that_names_it() {
        assert_eq!(relative("web.yaml", "./conf"), "conf");
        assert_eq!(relative("shop/web.yaml", "conf//nginx/./x"), "shop/conf/nginx/x");
        assert_eq!(relative("shop/web.yaml", "../conf/"), "conf");
        assert_eq!(relative("web.yaml", "."), ".");
        assert_eq!(relative("shop/web.yaml", ".."), ".");
    }

    #[test]
    fn no_path_leads_out_of_the_site() {
        assert_eq!(relative("web.yaml", "../x"), "! \"../x\" leads out of the site");
        assert_eq!(relative("shop/web.yaml", "a/../../../etc"), "! \"a/../../../etc\" leads out of the site");
        assert_eq!(relative("a.yaml", "/etc"), "! \"/etc\" is absolute: only files of the site can be used here");
        assert_eq!(relative("a.yaml", "~/x"), "! \"~/x\": ~ is not expanded");
        assert_eq!(relative("a.yaml", ""), "! \"\" is not a path");
        assert_eq!(relative("a.yaml", "a\0b"), "! \"a\\0b\" is not a path");
    }

    #[test]
    fn a_host_path_is_normalised() {
        assert_eq!(absolute("//srv/./data/"), Ok("/srv/data".to_owned()));
        assert_eq!(absolute("/"), Ok("/".to_owned()));
        assert!(absolute("/srv/../etc").is_err());
    }
}
