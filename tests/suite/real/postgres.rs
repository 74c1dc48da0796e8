//! PostgreSQL from Debian packages: asked by `psql` from another container, its data in a volume that outlives it.

use super::{Mirror, base, build_all, install};
use anyhow::{Result, ensure};
use tests::host::{Host, eventually, is_root};

const SITE: &str = r#"apiVersion: agent/v1
kind: Image
metadata: {name: postgres}
spec: {build: {context: ./postgres, network: host}}
---
apiVersion: agent/v1
kind: Network
metadata: {name: back}
---
apiVersion: agent/v1
kind: Volume
metadata: {name: tables}
---
apiVersion: agent/v1
kind: Container
metadata: {name: db}
spec:
  image: postgres
  env: {GENERATION: "1"}
  networks: [back]
  volumes: ["tables:/data"]
  stopGracePeriod: 30s
  healthcheck: {test: [CMD, pg_isready, -h, 127.0.0.1, -U, postgres], interval: 500ms, timeout: 10s, retries: 3, startPeriod: 120s}
---
apiVersion: agent/v1
kind: Container
metadata: {name: client}
spec: {image: postgres, command: [sleep, infinity], networks: [back], dependsOn: {db: healthy}, stopGracePeriod: 1s}
"#;

/// The cluster is made in the volume, not when the package is installed.
fn dockerfile() -> String {
    format!(
        "FROM debian\nRUN mkdir /etc/postgresql-common && echo create_main_cluster=false > /etc/postgresql-common/createcluster.conf\n{}\
         RUN ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ && mkdir /data && chown postgres: /data\n\
         COPY start /start\nUSER postgres\nSTOPSIGNAL SIGINT\nCMD [\"sh\", \"/start\"]\n",
        install("postgresql")
    )
}

const START: &str = "set -e
if [ ! -s /data/db/PG_VERSION ]; then
  initdb -D /data/db -U postgres -A trust >/dev/null
  echo 'host all all all trust' >>/data/db/pg_hba.conf
fi
exec postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/tmp
";

#[test]
fn a_database_keeps_its_tables_through_a_restart_and_a_replacement() -> Result<()> {
    if !is_root("real: PostgreSQL from Debian packages") {
        return Ok(());
    }
    let Some(rootfs) = base("PostgreSQL")? else { return Ok(()) };
    let host = Host::new()?;
    let site = host.files(&[("site/site.yaml", SITE), ("site/postgres/Dockerfile", &dockerfile()), ("site/postgres/start", START)])?;
    std::fs::copy(rootfs, site.join("debian.tar.zst"))?;
    if build_all(&host, &site, &["postgres"], "PostgreSQL")? == Mirror::Away {
        return Ok(());
    }
    let name = site.display().to_string();
    host.agent(&["apply", &name]).ok()?;
    let psql =
        |statement: &str| host.agent(&["container", "exec", "client", "psql", "-h", "db", "-U", "postgres", "-qAtc", statement]).ok();
    psql("create table orders (id serial primary key, what text); insert into orders (what) values ('tea'), ('milk')")?;
    let orders = || psql("select string_agg(what, '+' order by id) from orders");
    ensure!(orders()? == "tea+milk\n");

    host.agent(&["container", "restart", "db"]).ok()?;
    eventually("the restarted one answers", || {
        ensure!(orders()? == "tea+milk\n");
        Ok(())
    })?;
    psql("insert into orders (what) values ('bread')")?;

    host.files(&[("site/site.yaml", &SITE.replace("GENERATION: \"1\"", "GENERATION: \"2\""))])?;
    host.agent(&["apply", &name]).ok()?;
    ensure!(host.agent(&["container", "ps", "-aq"]).ok()? == "client@1\ndb@2\n");
    ensure!(orders()? == "tea+milk+bread\n");
    let log = host.logs("db")?;
    ensure!(!log.contains("was not properly shut down"), "it was asked to stop and given the time for it: {log}");
    ensure!(host.agent(&["plan", &name]).code == 0);
    Ok(())
}
