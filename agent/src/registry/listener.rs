//! The socket: connections in bounded number, a thread each, and an end that lets what is under way finish.

use super::Registry;
use super::access::AccessError;
use super::connection::{self, Wire};
use super::pace::Paced;
use runtime::image::store::StoreError;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at once; a client opens three to six. For one beyond, the oldest that waits for a request is closed; if all are busy, it
/// waits, and those after it in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// Stack of a connection's thread: unpacking a pushed layer is done on it.
const STACK_BYTES: usize = 2 << 20;
/// How long a connection may take to its first request before it counts as waiting.
const BEGIN_GRACE: Duration = Duration::from_secs(1);
/// Longest that requests under way may take after the end was asked for.
const GRACE: Duration = Duration::from_secs(20);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not ours, or in use.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A certificate or key that is none.
    #[error("read {path:?}: {problem}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The password file.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The image store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files of the store.
    #[error(transparent)]
    File(#[from] runtime::store::FileError),
}

/// A certificate with its key, ready to use.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads a certificate chain and its key, both PEM.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, ServeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |problem: String| ServeError::Tls { path, problem }
        };
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(certificates)(error.to_string()))?;
        let key_read = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key)(error.to_string()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key_read))
            .map_err(|error| failed(certificates)(error.to_string()))?;
        Ok(Self(Arc::new(config)))
    }
}

/// A registry that listens.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    registry: Arc<Registry>,
    shared: Arc<Shared>,
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    open: Mutex<BTreeMap<u64, Open>>,
    changed: Condvar,
}

/// A connection.
struct Open {
    stream: TcpStream,
    idle: Arc<AtomicBool>,
    since: Instant,
}

/// Ends a [`Server`] from another thread.
#[derive(Clone)]
pub struct Ender {
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
}

/// The connections there are, by their numbers.
type Connections<'a> = MutexGuard<'a, BTreeMap<u64, Open>>;

impl Shared {
    fn open(&self) -> Connections<'_> {
        // A thread that panicked left a map as good as before: it only inserts and removes.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Listens; answers nobody yet.
    pub fn bind(registry: Registry, address: SocketAddr, tls: Option<Tls>) -> Result<Self, ServeError> {
        let listener = TcpListener::bind(address).map_err(|source| ServeError::Listen { address, source })?;
        Ok(Self { listener, tls, registry: Arc::new(registry), shared: Arc::default() })
    }

    /// Where it listens: the port is the kernel's choice if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What ends it.
    pub fn ender(&self) -> io::Result<Ender> {
        Ok(Ender { listener: Arc::new(self.listener.try_clone()?), shared: Arc::clone(&self.shared) })
    }

    /// Answers until [`Ender::end`]; then what is under way is finished, within reason.
    pub fn run(self) {
        for number in 0.. {
            match self.listener.accept() {
                _ if self.shared.ending.load(Ordering::SeqCst) => break,
                Ok((stream, peer)) => {
                    self.wait_for_room();
                    self.begin(number, stream, peer);
                }
                Err(error) => {
                    // Out of descriptors, or a client that went away: neither is helped by spinning.
                    tracing::warn!(%error, "accept");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        self.finish();
    }

    fn wait_for_room(&self) {
        let mut open = self.shared.open();
        while open.len() >= CONNECTIONS_MAX && !self.shared.ending.load(Ordering::SeqCst) {
            // The least number is the oldest. Its thread takes it off the list.
            let waits = |it: &&Open| it.idle.load(Ordering::SeqCst) && it.since.elapsed() > BEGIN_GRACE;
            if let Some(oldest) = open.values().find(waits) {
                let _ = oldest.stream.shutdown(std::net::Shutdown::Both);
            }
            open = self.wait_for_change(open);
        }
    }

    /// Until one ends, or a moment: one that was busy may be idle without having ended.
    fn wait_for_change<'a>(&self, open: Connections<'a>) -> Connections<'a> {
        let waited = self.shared.changed.wait_timeout(open, Duration::from_millis(200));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn begin(&self, number: u64, stream: TcpStream, peer: SocketAddr) {
        let (registry, shared, tls) = (Arc::clone(&self.registry), Arc::clone(&self.shared), self.tls.clone());
        let idle = Arc::new(AtomicBool::new(true));
        let prepared = stream.set_nodelay(true).and_then(|()| stream.try_clone());
        let Ok(clone) = prepared else { return };
        self.shared.open().insert(number, Open { stream: clone, idle: Arc::clone(&idle), since: Instant::now() });
        let spawned = thread::Builder::new().name("connection".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let _leaving = Leaving { shared: &shared, number };
            match wire(stream, tls.as_ref()).and_then(|wire| connection::serve(&registry, wire, &shared.ending, &idle)) {
                Ok(()) => {}
                Err(error) => tracing::debug!(%peer, %error, "connection ended"),
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "start a thread for a connection");
            self.shared.open().remove(&number);
        }
    }

    /// Closes what waits, and waits for what works.
    fn finish(&self) {
        let deadline = Instant::now() + GRACE;
        let mut open = self.shared.open();
        while !open.is_empty() && Instant::now() < deadline {
            for connection in open.values().filter(|connection| connection.idle.load(Ordering::SeqCst)) {
                // One that just went away is closed already.
                let _ = connection.stream.shutdown(std::net::Shutdown::Both);
            }
            open = self.wait_for_change(open);
        }
        for connection in open.values() {
            let _ = connection.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Ender {
    /// No more connections; those that wait for a request are closed.
    pub fn end(&self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        // Wakes the thread that waits in accept(2); a socket that is not there any more has nobody to wake.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
    }
}

/// Takes a connection off the list, also if its thread panics.
struct Leaving<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.open().remove(&self.number);
        self.shared.changed.notify_all();
    }
}

fn wire(stream: TcpStream, tls: Option<&Tls>) -> io::Result<Wire> {
    let stream = Paced::new(stream);
    Ok(match tls {
        None => Wire::Plain(stream),
        Some(Tls(config)) => {
            let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Wire::Tls(Box::new(StreamOwned::new(connection, stream)))
        }
    })
}
