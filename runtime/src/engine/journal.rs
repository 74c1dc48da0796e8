//! Who serves, remembered: the traffic as last set, in the run directory, which is gone after a boot just as the kernel's tables are.
//!
//! The file is a stream of JSON documents, each a change that overrides those before it. The first is the whole traffic at one
//! moment; when the rest has outgrown it, it is written anew. So a change costs what changes, however many containers there are.
//!
//! ```json
//! {"db@1": [[{"network": "shop", "address": "172.18.0.3", "aliases": []}], []], "web@1": …}
//! {"web@1": null}
//! ```

use crate::container::config::Endpoint;
use crate::network::{Serving, Traffic, TrafficChange};
use crate::store::{FileError, atomic};
use spec::value::{ContainerId, PortMapping};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// So many changes may stand behind the whole before it is written anew, beyond as many as there are containers.
const CHANGES_MAX: usize = 64;

/// A document as it is written, and as it is read: endpoints and ports of each container.
type Written<'a> = BTreeMap<&'a ContainerId, Option<(&'a [Endpoint], &'a [PortMapping])>>;
type Stored = BTreeMap<ContainerId, Option<(Vec<Endpoint>, Vec<PortMapping>)>>;

/// The record, as far as this process has read it.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// The file that was read, held open so that no other can have its number.
    file: Option<File>,
    /// How much of it was read: whole documents.
    read_bytes: u64,
    /// Documents in it.
    changes: usize,
    traffic: Traffic,
}

impl Journal {
    /// The record at this path; nothing is read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, read_bytes: 0, changes: 0, traffic: Traffic::new() }
    }

    /// The traffic as it is recorded now. Only what others have written since the last time is read.
    pub(super) fn read(&mut self) -> Result<&Traffic, FileError> {
        let file = match File::open(&self.path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(FileError::of("open", &self.path)(error)),
        };
        let is_known = match (&self.file, &file) {
            (Some(known), Some(file)) => self.is_same(known, file)?,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_known {
            *self = Self { file, ..Self::new(std::mem::take(&mut self.path)) };
        }
        self.read_on()?;
        Ok(&self.traffic)
    }

    /// Writes down a change of what [`Journal::read`] gave. Only for whoever has kept others from writing since then.
    pub(super) fn write(&mut self, change: &TrafficChange) -> Result<(), FileError> {
        let owned = || change.iter().map(|(id, serving)| (id.clone(), serving.clone()));
        if self.file.is_none() || self.changes > CHANGES_MAX + self.traffic.len() {
            let mut all = self.traffic.clone();
            take_over(&mut all, owned());
            return self.replace(all);
        }
        let append = || -> io::Result<u64> {
            let line = line(change.iter().map(|(id, serving)| (id, serving.as_ref())))?;
            let mut file = OpenOptions::new().write(true).open(&self.path)?;
            // What a writer that was killed left of a document is not one.
            file.set_len(self.read_bytes)?;
            file.seek(SeekFrom::End(0))?;
            file.write_all(&line)?;
            Ok(line.len() as u64)
        };
        self.read_bytes += append().map_err(FileError::of("write", &self.path))?;
        self.changes += 1;
        take_over(&mut self.traffic, owned());
        Ok(())
    }

    /// Writes the whole anew, whatever was recorded.
    pub(super) fn replace(&mut self, traffic: Traffic) -> Result<(), FileError> {
        let line = line(traffic.iter().map(|(id, serving)| (id, Some(serving)))).map_err(FileError::of("encode", &self.path))?;
        atomic::write(&self.path, &line)?;
        *self = Self::new(std::mem::take(&mut self.path));
        self.read().map(drop)
    }

    fn is_same(&self, known: &File, file: &File) -> Result<bool, FileError> {
        let look = |file: &File| file.metadata().map_err(FileError::of("look at", &self.path));
        let (known, found) = (look(known)?, look(file)?);
        Ok((known.dev(), known.ino()) == (found.dev(), found.ino()) && found.len() >= self.read_bytes)
    }

    fn read_on(&mut self) -> Result<(), FileError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(self.read_bytes)).and_then(|_| file.read_to_end(&mut bytes));
        read.map_err(FileError::of("read", &self.path))?;
        let mut documents = serde_json::Deserializer::from_slice(&bytes).into_iter::<Stored>();
        let mut whole_bytes = 0;
        loop {
            match documents.next() {
                None => break,
                // What a writer was killed at, or is at right now.
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(error)) => return Err(FileError::of("read", &self.path)(io::Error::from(error))),
                Some(Ok(document)) => {
                    whole_bytes = documents.byte_offset();
                    self.changes += 1;
                    let serving = |(endpoints, ports)| Serving { endpoints, ports };
                    take_over(&mut self.traffic, document.into_iter().map(|(id, stored)| (id, stored.map(serving))));
                }
            }
        }
        whole_bytes += usize::from(bytes.get(whole_bytes) == Some(&b'\n'));
        self.read_bytes += whole_bytes as u64;
        Ok(())
    }
}

fn take_over(traffic: &mut Traffic, change: impl Iterator<Item = (ContainerId, Option<Serving>)>) {
    for (id, serving) in change {
        match serving {
            Some(serving) => drop(traffic.insert(id, serving)),
            None => drop(traffic.remove(&id)),
        }
    }
}

/// One document, as it is written.
fn line<'a>(change: impl Iterator<Item = (&'a ContainerId, Option<&'a Serving>)>) -> io::Result<Vec<u8>> {
    let change: Written<'_> = change.map(|(id, serving)| (id, serving.map(|it| (it.endpoints.as_slice(), it.ports.as_slice())))).collect();
    let mut line = serde_json::to_vec(&change).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(port: u16) -> Serving {
        Serving { endpoints: Vec::new(), ports: vec![format!("{port}:80").parse().unwrap()] }
    }

    fn change(id: &str, port: Option<u16>) -> TrafficChange {
        TrafficChange::from([(id.parse().unwrap(), port.map(serving))])
    }

    fn shown(traffic: &Traffic) -> Vec<String> {
        traffic.iter().map(|(id, serving)| format!("{id} {}", serving.ports[0].host_port)).collect()
    }

    #[test]
    fn what_one_writes_another_reads_on() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Journal::new(directory.path().join("traffic.json"));
        let (mut one, mut two) = (open(), open());
        assert_eq!(shown(two.read().unwrap()), [""; 0]);
        one.read().unwrap();
        one.write(&change("web@1", Some(80))).unwrap();
        one.write(&change("db@1", Some(81))).unwrap();
        assert_eq!(shown(two.read().unwrap()), ["db@1 81", "web@1 80"]);
        two.write(&change("web@1", None)).unwrap();
        assert_eq!(shown(one.read().unwrap()), ["db@1 81"]);
        one.replace(Traffic::from([("web@2".parse().unwrap(), serving(90))])).unwrap();
        assert_eq!(shown(two.read().unwrap()), ["web@2 90"]);
        assert_eq!(shown(open().read().unwrap()), ["web@2 90"]);
    }

    #[test]
    fn half_a_document_is_none_and_the_next_writer_removes_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("traffic.json");
        let mut journal = Journal::new(path.clone());
        journal.write(&change("web@1", Some(80))).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [whole.as_slice(), br#"{"web@1": nul"#].concat()).unwrap();
        assert_eq!(shown(journal.read().unwrap()), ["web@1 80"]);
        journal.write(&change("db@1", Some(81))).unwrap();
        assert_eq!(shown(Journal::new(path.clone()).read().unwrap()), ["db@1 81", "web@1 80"]);
        std::fs::write(&path, "{]").unwrap();
        assert!(Journal::new(path).read().is_err(), "what is no record is not taken for an empty one");
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("traffic.json");
        let mut journal = Journal::new(path.clone());
        for _ in 0..10 * CHANGES_MAX {
            journal.write(&change("web@1", Some(80))).unwrap();
            journal.write(&change("web@1", None)).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap().lines().count() <= CHANGES_MAX + 3);
        assert_eq!(shown(Journal::new(path).read().unwrap()), [""; 0]);
    }
}
