//! `agent container top`.

use super::find::find_one;
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use runtime::container::{self, Task};

/// Show the processes of a running container, by the host's numbers.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Name or id
    container: String,
}

pub(super) fn run(args: &TopArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let tasks = container::top(engine.places(), &find_one(&engine, &args.container)?)?;
    let rows: Vec<_> = tasks.iter().map(row).collect();
    let headings = ["uid", "pid", "ppid", "time", "command"];
    session.render.rows(&headings, &rows, |row| {
        headings.map(|heading| row[heading].as_str().map_or_else(|| row[heading].to_string(), str::to_owned)).to_vec()
    });
    Ok(exit::DONE)
}

fn row(task: &Task) -> serde_json::Value {
    let seconds = task.time.as_secs();
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    serde_json::json!({"uid": task.user, "pid": task.pid, "ppid": task.parent, "time": time, "command": task.command})
}
