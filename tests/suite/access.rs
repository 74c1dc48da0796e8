//! Reaching registries: Debian's `docker-registry` with TLS and passwords, mirrors, policies and signatures.
//!
//! The registry is not on loopback, where nothing is asked of it, but on an address of its own in the host's namespace.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tests::authority::{Authority, openssl};
use tests::host::{Host, Ran, Running, eventually, is_root, program};

const ADDRESS: &str = "10.99.0.1";
const REGISTRY: &str = "10.99.0.1:5000";
const PASSWORD: &str = "s3cret-pa55";
/// `me` with that password; bcrypt at its lowest cost.
const HTPASSWD: &str = "me:$2b$04$/qFI.lnMV3nkR.HT4VLUfu0SYAajfCl0TlaLxvy0UnNf0.RyH1Aoe\n";

#[test]
fn a_registry_is_trusted_by_its_authority_and_asks_for_a_password() -> Result<()> {
    let Some(secure) = Secure::start("access: tls and password")? else { return Ok(()) };
    secure.push("web:1", "one")?;
    let web = format!("{REGISTRY}/web:1");

    secure.refused(&["image", "pull", &web], "no authority this host trusts")?;
    secure.settings(&format!("{REGISTRY}: {{ca: other/ca.pem}}"))?;
    secure.refused(&["image", "pull", &web], "no authority this host trusts")?;
    secure.settings(&format!("{REGISTRY}: {{ca: authority/ca.pem}}"))?;
    secure.refused(&["image", "pull", &web], &format!("log in (agent image login {REGISTRY})"))?;
    secure.log_in("wrong")?.err_with("refuses the user, password or token")?;
    ensure!(!secure.docker_config().exists(), "a password that does not work is not kept");

    let said = secure.log_in(PASSWORD)?.ok()?;
    ensure!(said.contains("Login Succeeded"), "{said}");
    ensure!(fs::metadata(secure.docker_config())?.permissions().mode() & 0o777 == 0o600);
    secure.quiet(&["image", "pull", &web])?.ok()?;
    // Beside the system's authorities: here the right one is the system's.
    secure.settings(&format!("{REGISTRY}: {{ca: other/ca.pem}}"))?;
    let mut command = secure.host.command(program("agent"));
    command.args(["image", "pull", &web]).env("SSL_CERT_FILE", secure.config("authority/ca.pem"));
    Ran::from(command.env("DOCKER_CONFIG", secure.host.path().join("docker")).output()?).ok()?;
    secure.settings(&format!("{REGISTRY}: {{ca: authority/ca.pem}}"))?;
    let pushed = secure.quiet(&["image", "push", &web, &format!("{REGISTRY}/pushed:1")])?.ok()?;
    ensure!(pushed.contains("digest: sha256:"), "{pushed}");
    // The same file serves the other tools.
    let (passwords, certificates) = (secure.docker_config().to_string_lossy().into_owned(), secure.certificates());
    let skopeo = ["inspect", "--authfile", &passwords, "--cert-dir", &certificates];
    secure.host.run("skopeo", &[&skopeo[..], &[&format!("docker://{web}")]].concat()).ok()?;
    // Without verification, by the operator's word.
    secure.push("web:2", "two")?;
    secure.settings(&format!("{REGISTRY}: {{insecure: true}}"))?;
    secure.quiet(&["image", "pull", &format!("{REGISTRY}/web:2")])?.ok()?;

    ensure!(secure.quiet(&["image", "logout", REGISTRY])?.ok()?.contains("Removed"));
    ensure!(secure.quiet(&["image", "logout", REGISTRY])?.ok()?.contains("Not logged in"));
    secure.refused(&["image", "pull", &web], "log in")
}

#[test]
fn what_is_wrong_with_a_certificate_is_named_with_its_remedy() -> Result<()> {
    let Some(secure) = Secure::start("access: certificates")? else { return Ok(()) };
    let authority = Authority::new(&secure.host.path().join("issuer"))?;
    fs::copy(authority.certificate(), secure.config("issuer.pem"))?;
    let cases = [
        ("5001", authority.sign("10.99.0.9")?, "its certificate is for another name"),
        ("5002", authority.sign_expired(ADDRESS)?, "its certificate has expired"),
    ];
    for (port, identity, expected) in cases {
        let address = format!("{ADDRESS}:{port}");
        let [certificate, key] = [identity.certificate, identity.key].map(|path| path.to_string_lossy().into_owned());
        let server =
            secure.host.spawn_agent(&["registry", "serve", "--listen", &address, "--tls-cert", &certificate, "--tls-key", &key])?;
        eventually("it serves", || {
            ensure!(server.output().contains("serving on"), "{}", server.output());
            Ok(())
        })?;
        secure.settings(&format!("{address}: {{ca: issuer.pem}}"))?;
        secure.refused(&["image", "pull", &format!("{address}/web:1")], expected)?;
    }
    secure.settings(&format!("'{ADDRESS}:5003': {{ca: issuer.pem}}"))?;
    secure.refused(&["image", "pull", &format!("{ADDRESS}:5003/web:1")], "nothing listens there")?;
    secure.refused(&["image", "pull", "registry.invalid/web:1"], "check its name and this host's DNS")?;
    secure.settings(&format!("{REGISTRY}: {{client: {{certificate: authority/ca.pem, key: other/ca.key}}}}"))?;
    secure.refused(&["image", "pull", &format!("{REGISTRY}/web:1")], "the private key is not that of the certificate")
}

#[test]
fn a_registry_that_asks_for_a_certificate_of_this_host_gets_it() -> Result<()> {
    let Some(secure) = Secure::start_asking("access: client certificates")? else { return Ok(()) };
    let web = format!("{REGISTRY}/web:1");
    secure.settings(&format!("{REGISTRY}: {{ca: authority/ca.pem}}"))?;
    secure.refused(&["image", "pull", &web], "it may want a certificate of this host: name it as client in registries.yaml")?;
    secure.settings(&format!("{REGISTRY}: {{ca: authority/ca.pem, client: {{certificate: other/client.pem, key: other/client.key}}}}"))?;
    secure.refused(&["image", "pull", &web], "it does not take the certificate of this host")?;
    secure.settings(&format!(
        "{REGISTRY}: {{ca: authority/ca.pem, client: {{certificate: authority/client.pem, key: authority/client.key}}}}"
    ))?;
    secure.log_in(PASSWORD)?.ok()?;
    secure.push("web:1", "one")?;
    secure.quiet(&["image", "pull", &web])?.ok()?;
    secure.quiet(&["image", "push", &web, &format!("{REGISTRY}/pushed:1")])?.ok()?;

    // Docker's directory of certificates says the same; a directory of its own stands in for this machine's /etc.
    fs::remove_file(secure.config("registries.yaml"))?;
    secure.refused(&["image", "pull", &web], "no authority this host trusts")?;
    let directory = secure.host.path().join("etc/docker/certs.d").join(REGISTRY);
    fs::create_dir_all(&directory)?;
    for (from, to) in [("ca.pem", "ca.crt"), ("client.pem", "client.cert"), ("client.key", "client.key")] {
        fs::copy(secure.config(&format!("authority/{from}")), directory.join(to))?;
    }
    let pull = |etc: &str| -> Result<Ran> {
        let script = format!("mount --bind {etc} /etc && exec {} image pull {web}", program("agent").display());
        let mut command = secure.host.command("unshare");
        command.args(["--mount", "sh", "-c", &script]).env("DOCKER_CONFIG", secure.host.path().join("docker"));
        Ok(Ran::from(command.output()?))
    };
    let etc = secure.host.path().join("etc").to_string_lossy().into_owned();
    pull(&etc)?.ok()?;
    fs::remove_file(directory.join("client.key"))?;
    pull(&etc)?.err_with("client.key\", a certificate for connections to 10.99.0.1:5000")
}

#[test]
fn a_password_that_is_typed_is_not_shown() -> Result<()> {
    let Some(secure) = Secure::start("access: terminal")? else { return Ok(()) };
    secure.settings(&format!("{REGISTRY}: {{ca: authority/ca.pem}}"))?;
    let agent = format!("{} image login {REGISTRY}", program("agent").display());
    let mut command = secure.host.command("script");
    command.args(["--quiet", "--return", "--command", &agent, "/dev/null"]).env("DOCKER_CONFIG", secure.host.path().join("docker"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut keyboard, mut screen) = (child.stdin.take().context("piped")?, child.stdout.take().context("piped")?);
    let mut shown = String::new();
    for (question, answer) in [("Username: ", "me"), ("Password: ", PASSWORD)] {
        while !shown.ends_with(question) {
            let mut byte = [0];
            screen.read_exact(&mut byte).with_context(|| shown.clone())?;
            shown.push(char::from(byte[0]));
        }
        keyboard.write_all(format!("{answer}\n").as_bytes())?;
    }
    screen.read_to_string(&mut shown)?;
    ensure!(child.wait()?.success() && shown.contains("Login Succeeded") && !shown.contains(PASSWORD), "{shown}");
    Ok(())
}

#[test]
fn a_credential_helper_keeps_the_password_if_the_configuration_names_one() -> Result<()> {
    let Some(secure) = Secure::start("access: helper")? else { return Ok(()) };
    secure.push("web:1", "one")?;
    secure.settings(&format!("{REGISTRY}: {{ca: authority/ca.pem}}"))?;
    secure.helper("cat > \"$KEPT\"", "cat \"$KEPT\"", "rm \"$KEPT\"")?;
    secure.log_in(PASSWORD)?.ok()?;
    let config = fs::read_to_string(secure.docker_config())?;
    ensure!(!config.contains("\"auth\""), "the password is in the file too: {config}");
    let kept = fs::read_to_string(secure.host.path().join("kept"))?;
    ensure!(kept.contains(REGISTRY) && kept.contains(PASSWORD), "{kept}");
    secure.quiet(&["image", "pull", &format!("{REGISTRY}/web:1")])?.ok()?;
    secure.quiet(&["image", "logout", REGISTRY])?.ok()?;
    ensure!(!secure.host.path().join("kept").exists());

    secure.helper("exit 1", "echo credentials not found in native keychain; exit 1", "true")?;
    secure.refused(&["image", "pull", &format!("{REGISTRY}/web:1")], "log in")?;
    secure.helper("exit 1", "echo the vault is locked; exit 3", "true")?;
    secure.refused(
        &["image", "pull", &format!("{REGISTRY}/web:1")],
        "docker-credential-test get ended with exit status: 3: the vault is locked",
    )
}

#[test]
fn only_what_the_policy_takes_is_pulled_run_and_built_upon() -> Result<()> {
    let Some(secure) = Secure::start("access: policy")? else { return Ok(()) };
    let plain = format!("{REGISTRY}: {{ca: authority/ca.pem}}\n");
    secure.settings(&plain)?;
    secure.log_in(PASSWORD)?.ok()?;
    for (name, page) in [("team/web:1", "signed"), ("team/web:2", "not signed"), ("team/web:3", "by somebody else")] {
        secure.push(name, page)?;
    }
    for key in ["release", "somebody"] {
        let [private, public] = ["key", "pub"].map(|end| secure.config(&format!("{key}.{end}")));
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], &["-out", &private])?;
        openssl(&["ec", "-pubout"], &["-in", &private, "-out", &public])?;
    }
    secure.sign("team/web:1", "release")?;
    secure.sign("team/web:3", "somebody")?;

    // Before there is a policy: the unsigned one runs.
    let site = secure.site("web", &format!("{REGISTRY}/team/web:2"))?;
    secure.quiet(&["apply", &site])?.ok()?;
    let running = secure.quiet(&["container", "inspect", "web"])?.ok()?;

    secure.settings(&format!(
        "{plain}  {REGISTRY}/team: {{policy: {{cosignKeys: [release.pub]}}}}\n  \"*\": {{policy: {{allowed: false}}}}\n"
    ))?;
    secure.refused(&["image", "pull", "nginx"], "does not allow images of *")?;
    // As nothing is said of the registry itself, what is said of all counts there too.
    secure.refused(&["image", "pull", &format!("{REGISTRY}/web:1")], "does not allow images of *")?;
    secure.settings(&format!(
        "{plain}  {REGISTRY}/team: {{policy: {{allowed: true, cosignKeys: [release.pub]}}}}\n  \"*\": {{policy: {{allowed: false}}}}\n"
    ))?;
    let unsigned = "it has no signature, and registries.yaml wants one";
    secure.refused(&["image", "pull", &format!("{REGISTRY}/team/web:2")], unsigned)?;
    secure.refused(&["image", "pull", &format!("{REGISTRY}/team/web:3")], "by none of the keys")?;
    secure.quiet(&["image", "pull", &format!("{REGISTRY}/team/web:1")])?.ok()?;
    // Who signed it is remembered by the digest of the key.
    openssl(&["pkey", "-pubin", "-outform", "DER"], &["-in", &secure.config("release.pub"), "-out", &secure.config("release.der")])?;
    let key = spec::value::Digest::of(&fs::read(secure.config("release.der"))?);
    let shown: serde_json::Value = serde_json::from_str(&secure.quiet(&["image", "inspect", &format!("{REGISTRY}/team/web:1")])?.ok()?)?;
    ensure!(shown[0]["Origins"][0]["signedBy"] == key.to_string(), "{shown}");

    // What was here before the policy is no exception, and what runs is left alone.
    secure.refused(&["apply", &site], unsigned)?;
    ensure!(secure.quiet(&["container", "inspect", "web"])?.ok()? == running);
    let dockerfile = format!("FROM {REGISTRY}/team/web:2\nLABEL a=b\n");
    let context = secure.host.files(&[("context/Dockerfile", &dockerfile)])?.to_string_lossy().into_owned();
    secure.refused(&["image", "build", &context], unsigned)?;
    secure.host.files(&[("context/Dockerfile", &dockerfile.replace(":2", ":1"))])?;
    secure.quiet(&["image", "build", "-t", "built", &context])?.ok()?;
    // Nor does a build take files from one, by whatever instruction.
    for instruction in ["COPY --from={} /page /taken", "RUN --mount=type=bind,from={},target=/mnt cp /mnt/page /taken"] {
        let dockerfile = |tag: &str| {
            let instruction = instruction.replace("{}", &format!("{REGISTRY}/team/web:{tag}"));
            format!("FROM {REGISTRY}/team/web:1\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nENV PATH=/bin\n{instruction}\n")
        };
        secure.host.files(&[("context/Dockerfile", &dockerfile("2").replace("cp ", "busybox cp "))])?;
        secure.refused(&["image", "build", &context], unsigned)?;
        secure.host.files(&[("context/Dockerfile", &dockerfile("1").replace("cp ", "busybox cp "))])?;
        secure.quiet(&["image", "build", &context])?.ok()?;
    }
    let site = secure.site("web", &format!("{REGISTRY}/team/web:1"))?;
    secure.quiet(&["apply", &site])?.ok()?;
    ensure!(secure.quiet(&["plan", &site])?.code == 0);
    Ok(())
}

#[test]
fn a_mirror_serves_what_the_registry_would() -> Result<()> {
    let Some(secure) = Secure::start("access: mirror")? else { return Ok(()) };
    let origin = format!("{REGISTRY}/origin");
    secure.push("hub/library/web:1", "from the mirror")?;
    let mirrors = format!("mirrors: ['http://{ADDRESS}:1', '{REGISTRY}/hub']");
    let trust = "ca: authority/ca.pem";
    secure.settings(&format!("docker.io: {{{mirrors}}}\n  {origin}: {{{mirrors}}}\n  {REGISTRY}: {{{trust}}}"))?;
    secure.log_in(PASSWORD)?.ok()?;
    secure.quiet(&["image", "pull", "web:1"])?.ok()?;
    secure.quiet(&["image", "pull", &format!("{origin}/library/web:1")])?.ok()?;
    let listed = secure.quiet(&["image", "ls"])?.ok()?;
    let named = |name: &str| listed.lines().any(|line| line.split_whitespace().take(2).eq([name, "1"]));
    ensure!(named("web") && named(&format!("{origin}/library/web")), "{listed}");
    let failed = secure.quiet(&["image", "pull", &format!("{origin}/web:2")])?;
    for part in [
        "mirror 10.99.0.1:1:",
        "mirror 10.99.0.1:5000: get manifest 2 of hub/web",
        "registry 10.99.0.1:5000: get manifest 2 of origin/web",
        "404",
    ] {
        ensure!(failed.code == 1 && failed.stderr.contains(part), "{part}: {failed:?}");
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_the_settings_is_shown_where_it_stands() -> Result<()> {
    let Some(secure) = Secure::start("access: settings")? else { return Ok(()) };
    secure.settings("docker.io: {mirors: [], insecure: maybe}")?;
    let expected = "registries.yaml:4:15: unknown field \"mirors\" (write `mirrors`)";
    secure.refused(&["image", "pull", "web:1"], expected)?;
    let site = secure.site("web", "web:1")?;
    secure.refused(&["apply", &site], expected)?;
    let checked = secure.quiet(&["validate", &site])?;
    ensure!(
        checked.code == 1 && checked.stderr.contains("unknown field \"mirors\"") && checked.stderr.contains("write `mirrors`"),
        "{checked:?}"
    );
    secure.settings("docker.io: {ca: absent.pem}")?;
    secure.refused(&["image", "pull", "web:1"], "absent.pem\", which registries.yaml names for docker.io")
}

/// A host and a registry that it has to get to know.
struct Secure {
    // Ends before its host does.
    _server: Running,
    host: Host,
}

impl Secure {
    /// `None`, loudly, where it cannot be tested.
    fn start(test: &str) -> Result<Option<Self>> {
        Self::start_with(test, |_| String::new())
    }

    /// One that asks its clients for certificates of its own authority.
    fn start_asking(test: &str) -> Result<Option<Self>> {
        Self::start_with(test, |authority| format!("    clientcas: [{authority}]\n"))
    }

    fn start_with(test: &str, more_tls: impl Fn(&str) -> String) -> Result<Option<Self>> {
        let missing = |program: &&str| Command::new("which").arg(program).output().is_ok_and(|found| !found.status.success());
        if !is_root(test) {
            return Ok(None);
        }
        if let Some(program) = ["docker-registry", "skopeo", "openssl", "curl"].iter().find(|program| missing(program)) {
            eprintln!("SKIPPED {test}: {program} is not installed");
            return Ok(None);
        }
        let host = Host::new()?;
        host.run("ip", &["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]).ok()?;
        let config = host.places().config;
        let authority = Authority::new(&config.join("authority"))?;
        let (identity, client) = (authority.sign(ADDRESS)?, authority.sign_client()?);
        Authority::new(&config.join("other"))?.sign_client()?;
        let [root, passwords] = ["registry", "htpasswd"].map(|name| host.path().join(name));
        fs::write(&passwords, HTPASSWD)?;
        let settings = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\nhttp:\n  \
             addr: {REGISTRY}\n  tls:\n    certificate: {}\n    key: {}\n{}",
            root.display(),
            passwords.display(),
            identity.certificate.display(),
            identity.key.display(),
            more_tls(&authority.certificate().to_string_lossy())
        );
        let path = host.path().join("registry.yml");
        fs::write(&path, settings)?;
        fs::create_dir_all(host.path().join("certificates"))?;
        // What skopeo is given as a directory of certificates.
        let certificates = host.path().join("certificates");
        fs::copy(authority.certificate(), certificates.join("ca.crt"))?;
        fs::copy(&client.certificate, certificates.join("client.cert"))?;
        fs::copy(&client.key, certificates.join("client.key"))?;
        let server = host.spawn("docker-registry", &["serve", &path.to_string_lossy()])?;
        let secure = Self { _server: server, host };
        let [authority, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| secure.config(&format!("authority/{name}")));
        let user = format!("me:{PASSWORD}");
        let arguments = ["-sSf", "--cacert", &authority, "--cert", &certificate, "--key", &key, "-u", &user];
        let ready = || secure.host.run("curl", &[&arguments[..], &[&format!("https://{REGISTRY}/v2/")]].concat()).ok();
        eventually("the registry answers", ready)?;
        Ok(Some(secure))
    }

    /// A file of the configuration directory.
    fn config(&self, name: &str) -> String {
        self.host.places().config.join(name).to_string_lossy().into_owned()
    }

    fn certificates(&self) -> String {
        self.host.path().join("certificates").to_string_lossy().into_owned()
    }

    fn docker_config(&self) -> PathBuf {
        self.host.path().join("docker/config.json")
    }

    /// Writes registries.yaml with these rules.
    fn settings(&self, rules: &str) -> Result<()> {
        Ok(fs::write(self.config("registries.yaml"), format!("apiVersion: agent/v1\nkind: Registries\nspec:\n  {rules}\n"))?)
    }

    /// `agent` with all the logging there is, which must not show the password.
    fn quiet(&self, arguments: &[&str]) -> Result<Ran> {
        self.agent(arguments, "")
    }

    fn agent(&self, arguments: &[&str], input: &str) -> Result<Ran> {
        let mut command = self.host.command(program("agent"));
        let path = format!("{}:{}", self.host.path().join("bin").display(), std::env::var("PATH").unwrap_or_default());
        command.args(arguments).env("AGENT_LOG", "trace").env("PATH", path).env("KEPT", self.host.path().join("kept"));
        command.env("DOCKER_CONFIG", self.host.path().join("docker")).env_remove("XDG_RUNTIME_DIR");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("its input is piped")?.write_all(input.as_bytes())?;
        let ran = Ran::from(child.wait_with_output()?);
        let shown = format!("{}{}", ran.stdout, ran.stderr);
        // base64 of user and password as well.
        ensure!(!shown.contains(PASSWORD) && !shown.contains("bWU6czNjcmV0"), "{arguments:?} shows the password");
        Ok(ran)
    }

    fn log_in(&self, password: &str) -> Result<Ran> {
        self.agent(&["image", "login", REGISTRY, "-u", "me", "--password-stdin"], &format!("{password}\n"))
    }

    fn refused(&self, arguments: &[&str], because: &str) -> Result<()> {
        self.quiet(arguments)?.err_with(because)
    }

    /// Makes `docker-credential-test` of these commands, and the one that keeps passwords.
    fn helper(&self, store: &str, get: &str, erase: &str) -> Result<()> {
        let script = format!("#!/bin/sh\ncase $1 in\nstore) {store};;\nget) {get};;\nerase) {erase};;\nesac\n");
        let config = "{\"credsStore\": \"test\"}";
        self.host.files(&[("bin/docker-credential-test", &script), ("docker/config.json", config)])?;
        let program = self.host.path().join("bin/docker-credential-test");
        Ok(fs::set_permissions(program, fs::Permissions::from_mode(0o755))?)
    }

    /// Pushes an image of busybox and a page.
    fn push(&self, name: &str, page: &str) -> Result<()> {
        let root = self.host.path().join("root");
        fs::create_dir_all(&root)?;
        fs::write(root.join("page"), page)?;
        self.host.busybox("root/bin/busybox")?;
        let tar = self.host.path().join("root.tar").to_string_lossy().into_owned();
        self.host.run("tar", &["-cf", &tar, "-C", &root.to_string_lossy(), "bin", "page"]).ok()?;
        self.skopeo_copy(&format!("tarball:{tar}"), name)
    }

    fn skopeo_copy(&self, from: &str, name: &str) -> Result<()> {
        let (user, to) = (format!("me:{PASSWORD}"), format!("docker://{REGISTRY}/{name}"));
        let certificates = self.certificates();
        let arguments = ["copy", "--quiet", "--insecure-policy", "--dest-creds", &user, "--dest-cert-dir", &certificates, from, &to];
        Ran::from(self.host.command("skopeo").args(arguments).env("TMPDIR", self.host.path()).output()?).ok().map(drop)
    }

    /// Signs what is at a tag as cosign does: the payload and its signature as an image of their own beside it.
    fn sign(&self, name: &str, key: &str) -> Result<()> {
        let repository = name.split(':').next().context("a name with a tag")?;
        let (user, certificates) = (format!("me:{PASSWORD}"), self.certificates());
        let inspect = ["inspect", "--creds", &user, "--cert-dir", &certificates, "--format", "{{.Digest}}"];
        let digest = self.host.run("skopeo", &[&inspect[..], &[&format!("docker://{REGISTRY}/{name}")]].concat()).ok()?;
        let digest = digest.trim();
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{REGISTRY}/{repository}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let [file, signature, encoded] =
            ["payload", "signature", "encoded"].map(|name| self.host.path().join(name).to_string_lossy().into_owned());
        fs::write(&file, &payload)?;
        openssl(&["dgst", "-sha256", "-sign", &self.config(&format!("{key}.key"))], &["-out", &signature, &file])?;
        openssl(&["base64", "-A"], &["-in", &signature, "-out", &encoded])?;
        let layer = format!(
            r#"{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{}","size":{},"annotations":{{"dev.cosignproject.cosign/signature":"{}"}}}}"#,
            spec::value::Digest::of(payload.as_bytes()),
            payload.len(),
            fs::read_to_string(encoded)?
        );
        let layout = self.host.path().join(format!("signature-{key}"));
        write_layout(&layout, payload.as_bytes(), &layer)?;
        let tag = digest.replace(':', "-");
        self.skopeo_copy(&format!("oci:{}", layout.display()), &format!("{repository}:{tag}.sig"))
    }

    /// A site of one container; its directory.
    fn site(&self, name: &str, image: &str) -> Result<String> {
        let manifest = format!(
            "apiVersion: agent/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  image: \"{image}\"\n  \
             command: [/bin/busybox, sleep, \"3600\"]\n  networkMode: none\n  stopSignal: KILL\n"
        );
        Ok(self.host.files(&[("site/site.yaml", &manifest)])?.to_string_lossy().into_owned())
    }
}

/// An OCI layout of one manifest with this layer.
fn write_layout(directory: &std::path::Path, blob: &[u8], layer: &str) -> Result<()> {
    use spec::value::Digest;
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let config = format!(r#"{{"architecture":"","os":"","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(blob));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{layer}]}}"#,
        Digest::of(config.as_bytes()),
        config.len()
    );
    for bytes in [blob, config.as_bytes(), manifest.as_bytes()] {
        fs::write(blobs.join(Digest::of(bytes).hex()), bytes)?;
    }
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let entry = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}"#,
        Digest::of(manifest.as_bytes()),
        manifest.len()
    );
    Ok(fs::write(directory.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#))?)
}
