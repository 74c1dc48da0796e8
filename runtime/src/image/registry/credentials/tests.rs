//! Passwords in files as Docker and podman write them.

use super::{Credential, CredentialFiles, CredentialPlaces, Kept, erase, store};
use spec::value::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn password(user: &str, password: &str) -> Option<Credential> {
    Some(Credential::Password { user: user.to_owned(), password: Secret::new(password) })
}

#[test]
fn the_longest_name_that_covers_a_repository_wins() {
    let (_directory, path) = file(
        r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOng="},"https://index.docker.io/v1/access-token":{"auth":"bm86bm8="},
        "r.example:5000":{"auth":"bWU6cHc="},"r.example:5000/team":{"auth":"dGVhbTpwOnc="},"https://old.example/v2/":{"auth":"bWU6cHc="},
        "plain.example":{"username":"me","password":"pw"},"id.example":{"auth":"bWU6","identitytoken":"idt"},
        "token.example":{"registrytoken":"rt"},"empty.example":{},"r.example/only/this":{"auth":"bWU6cHc="}}}"#,
    );
    let files = CredentialFiles(vec![path.with_file_name("absent"), path]);
    let find = |registry, repository| files.find(registry, repository).unwrap();
    assert_eq!(find("docker.io", "library/nginx"), password("hub", "x"));
    assert_eq!(find("r.example:5000", "other"), password("me", "pw"));
    assert_eq!(find("r.example:5000", "team/app"), password("team", "p:w"));
    assert_eq!(find("r.example:5000", "teams/app"), password("me", "pw"));
    assert_eq!(find("r.example", "only/that"), None);
    assert_eq!(find("r.example", "only/this"), password("me", "pw"));
    assert_eq!(find("old.example", "a"), password("me", "pw"));
    assert_eq!(find("plain.example", "a"), password("me", "pw"));
    assert_eq!(find("id.example", "a"), Some(Credential::IdentityToken(Secret::new("idt"))));
    assert_eq!(find("token.example", ""), Some(Credential::RegistryToken(Secret::new("rt"))));
    assert_eq!(find("empty.example", "a"), None);
}

#[test]
fn files_are_looked_for_where_docker_and_podman_keep_them() {
    let files = |places: CredentialPlaces| CredentialFiles::usual(places).0.iter().map(|it| it.display().to_string()).collect::<Vec<_>>();
    let home = CredentialPlaces { home: Some("/h".into()), ..CredentialPlaces::default() };
    assert_eq!(files(home.clone()), ["/h/.docker/config.json", "/h/.config/containers/auth.json"]);
    let all = CredentialPlaces { docker_config: Some("/d".into()), runtime_dir: Some("/r".into()), config_home: Some("/c".into()), ..home };
    assert_eq!(files(all.clone()), ["/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"]);
    let named = CredentialPlaces { auth_file: Some("/a.json".into()), ..all };
    assert_eq!(files(named), ["/d/config.json", "/a.json", "/c/containers/auth.json"]);
}

#[test]
fn nothing_of_a_broken_file_is_quoted() {
    for text in [r#"{"auths":{"a":{"auth":"s3cret!"}}}"#, r#"{"auths":{"a":{"auth":"czNjcmV0"}}}"#, r#"{"auths":"s3cret"}"#, "s3cret"] {
        let (_directory, path) = file(text);
        let error = CredentialFiles(vec![path]).find("a", "b").unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("czNjcmV0"), "{shown}");
    }
    let shown = format!("{:?}", password("me", "s3cret"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_password_is_kept_for_its_owner_and_all_else_stays() {
    let (_directory, path) = file(r#"{"HttpHeaders":{"A":"b"},"auths":{"other.example":{"auth":"bWU6cHc="}}}"#);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    for registry in ["r.example", "docker.io"] {
        assert_eq!(store(&path, registry, "me", &Secret::new("p:w")).unwrap(), Kept::File(path.clone()));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let files = CredentialFiles(vec![path.clone()]);
    assert_eq!(files.find("r.example", "a").unwrap(), password("me", "p:w"));
    assert_eq!(files.find("docker.io", "library/a").unwrap(), password("me", "p:w"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("HttpHeaders") && text.contains("https://index.docker.io/v1/"), "{text}");

    assert_eq!(erase(&path, "r.example").unwrap(), Some(Kept::File(path.clone())));
    assert_eq!(erase(&path, "r.example").unwrap(), None);
    assert_eq!(files.find("r.example", "a").unwrap(), None);
    assert_eq!(files.find("other.example", "a").unwrap(), password("me", "pw"));
}

#[test]
fn a_file_is_made_where_there_is_none_and_a_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".docker/config.json");
    store(&path, "r.example", "me", &Secret::new("pw")).unwrap();
    let link = directory.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    store(&link, "s.example", "me", &Secret::new("pw")).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(CredentialFiles(vec![path]).find("s.example", "").unwrap(), password("me", "pw"));
}
