//! The process that carries a RUN step out: started, listened to, and ended if nobody wants it any more or the disk is full.

use crate::builder::build::Build;
use crate::builder::error::StepError;
use crate::builder::given::Redaction;
use crate::image::store::{ImageStore, StoreError};
use crate::process::pidfd;
use spec::value::Signal;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Lines of output that an error shows.
const LAST_LINES: usize = 20;
/// Longest line of output passed on at once; a longer one comes in pieces.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How often it is asked whether there is still room for what a command writes: a fast disk takes some gigabytes meanwhile.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// How a command ended.
pub(super) struct Ended {
    /// Exit code; 128 + signal for a signal.
    pub(super) code: i32,
    /// The end of its output.
    pub(super) last_lines: Vec<String>,
}

/// Starts the shim and passes its output on, line by line, until it ends. Errors: [`StoreError::NoRoom`] if what the command wrote left
/// none; it was ended then.
pub(super) fn run(build: &Build<'_>, bundle: &Path, redaction: &Redaction, output: &mut dyn FnMut(&str)) -> Result<Ended, StepError> {
    let shim = &build.request.shim;
    let failed = |operation| {
        let program = shim.display().to_string();
        move |source| StepError::Process { operation, program, source }
    };
    let (reader, writer) = std::io::pipe().map_err(failed("make a pipe for"))?;
    let errors = writer.try_clone().map_err(failed("make a pipe for"))?;
    let mut command = Command::new(shim);
    command.arg("run").arg(bundle).stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child = command.spawn().map_err(failed("start"))?;
    // Our own ends of the pipe go with the command: the reader must see its end when the child is gone.
    drop(command);
    let handle = Arc::new(pidfd::open_child(&child).map_err(failed("hold"))?);
    let stopped = Arc::clone(&handle);
    let _running = build.schedule.running(move || end(&stopped));
    let (lives, ends) = channel();
    thread::scope(|scope| {
        let refusal = scope.spawn(|| watch_room(build.store, &handle, ends));
        let last_lines = read_lines(reader, redaction, output);
        let status = child.wait().map_err(failed("wait for"));
        drop(lives);
        if let Ok(Some(refusal)) = refusal.join() {
            return Err(refusal.into());
        }
        let (status, last_lines) = (status?, last_lines.map_err(failed("read the output of"))?);
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Ok(Ended { code, last_lines })
    })
}

/// The shim ends the step's container and then itself.
fn end(shim: &OwnedFd) {
    let _ = pidfd::send_signal(shim.as_fd(), Signal::TERM);
}

/// Ends the step when what is written leaves no room; why, if it did. Nothing is ever sent: the other side is dropped when the step ends.
fn watch_room(store: &ImageStore, shim: &OwnedFd, ends: Receiver<()>) -> Option<StoreError> {
    let mut room = store.room_while_written();
    while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(ROOM_PAUSE) {
        if let Err(refusal) = room.check() {
            end(shim);
            return Some(refusal);
        }
    }
    None
}

fn read_lines(reader: PipeReader, redaction: &Redaction, output: &mut dyn FnMut(&str)) -> std::io::Result<Vec<String>> {
    let mut reader = BufReader::new(reader);
    let mut last = VecDeque::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(last.into());
        }
        let text = String::from_utf8_lossy(&line);
        let text = redaction.line(text.trim_end_matches(['\n', '\r']));
        output(&text);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text.into_owned());
    }
}
