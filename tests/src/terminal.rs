//! A terminal with a program of a host on it: what its screen shows, by the few sequences that are drawn with, and what else came.

use crate::host::{Host, eventually, program};
use anyhow::{Result, bail};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// A pseudoterminal, and what runs on it. Ended when dropped.
pub struct Terminal {
    child: Child,
    master: File,
    written: Arc<Mutex<Vec<u8>>>,
    columns: u16,
}

impl Host {
    /// `agent` with these arguments on a terminal of its own.
    pub fn agent_on_terminal(&self, (columns, rows): (u16, u16), arguments: &[&str], env: &[(&str, &str)]) -> Result<Terminal> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        tcsetwinsize(&master, size(columns, rows))?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        let slave = || OpenOptions::new().read(true).write(true).open(&name);
        // Its controlling terminal: what is typed there can be a signal, also where the tests run in a shell's background, which
        // has its programs ignore them.
        let mut command = self.command("setsid");
        command.args(["--ctty", "--wait", "env", "--default-signal=INT,QUIT"]).arg(program("agent")).args(arguments);
        command.env_remove("NO_COLOR").env("TERM", "xterm").envs(env.iter().copied());
        let child = command.stdin(slave()?).stdout(Stdio::from(slave()?)).stderr(slave()?).spawn()?;
        // The command keeps the other side open; without it the end is seen as EIO.
        drop(command);
        let master = File::from(master);
        let (mut reader, written) = (master.try_clone()?, Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Terminal { child, master, written, columns })
    }
}

impl Terminal {
    /// What it shows now: all lines, those that have scrolled away too.
    pub fn screen(&self) -> Screen {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        Screen::of(&String::from_utf8_lossy(&written), self.columns.into())
    }

    /// Waits until a line has this text in it.
    pub fn shows(&self, text: &str) -> Result<()> {
        eventually(&format!("the terminal shows {text:?}"), || {
            let screen = self.screen();
            if screen.lines.iter().any(|line| line.contains(text)) { Ok(()) } else { bail!("{}", screen.lines.join("\n")) }
        })
    }

    /// Whether what is typed is edited as a line and echoed here, as at a shell's prompt before and after a program has it raw.
    pub fn is_cooked(&self) -> Result<bool> {
        let modes = tcgetattr(&self.master)?;
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        Ok(modes.local_modes.contains(cooked) && modes.output_modes.contains(OutputModes::OPOST))
    }

    /// The program's process id: everything before it becomes it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the program a signal by name.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{signal}") }
    }

    /// Types something.
    pub fn types(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Gives it another size. What it showed before is kept as it was: the program draws anew from here.
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        self.columns = columns;
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(tcsetwinsize(&self.master, size(columns, rows))?)
    }

    /// Its exit code, once it has ended; -1 for a signal.
    pub fn wait(&mut self) -> Result<i32> {
        let code = self.child.wait()?.code().unwrap_or(-1);
        let mut before = None;
        // What was written last may still be on its way to us.
        eventually("the terminal is still", || {
            let now = self.written.lock().unwrap_or_else(PoisonError::into_inner).len();
            if before.replace(now) == Some(now) { Ok(()) } else { bail!("more comes") }
        })?;
        Ok(code)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A screen without a lower end.
#[derive(Debug, Default)]
pub struct Screen {
    /// Lines without their trailing spaces.
    pub lines: Vec<String>,
    /// Where the cursor is: line and column.
    pub cursor: (usize, usize),
    /// Sequences and control characters that are neither line ends nor what we draw with.
    pub strays: Vec<String>,
}

impl Screen {
    fn of(text: &str, columns: usize) -> Self {
        let mut screen = Self::default();
        let mut cells: Vec<Vec<char>> = vec![Vec::new()];
        let (mut row, mut column) = (0_usize, 0_usize);
        let mut chars = text.chars().peekable();
        while let Some(next) = chars.next() {
            match next {
                '\r' => column = 0,
                '\n' => row += 1,
                '\t' => column = (column / 8 + 1) * 8,
                '\x1b' => {
                    let mut sequence = String::new();
                    for next in chars.by_ref() {
                        sequence.push(next);
                        if next.is_ascii_alphabetic() || next == '\x07' {
                            break;
                        }
                    }
                    let count = sequence[1.min(sequence.len())..].trim_end_matches(char::is_alphabetic).parse().unwrap_or(0);
                    match sequence.chars().last() {
                        Some('m') => {}
                        Some('A') => row = row.saturating_sub(count),
                        Some('K') if count == 0 => cells[row].truncate(column),
                        Some('J') if count == 0 => {
                            cells[row].truncate(column);
                            cells.truncate(row + 1);
                        }
                        _ => screen.strays.push(sequence),
                    }
                }
                next if next.is_control() => screen.strays.push(next.escape_default().to_string()),
                next => {
                    if column == columns {
                        (row, column) = (row + 1, 0);
                    }
                    cells.resize(cells.len().max(row + 1), Vec::new());
                    let line = &mut cells[row];
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = next;
                    column += 1;
                }
            }
            cells.resize(cells.len().max(row + 1), Vec::new());
        }
        screen.lines = cells.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect();
        screen.cursor = (row, column);
        screen
    }
}
