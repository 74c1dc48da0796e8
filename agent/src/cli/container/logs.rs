//! `agent container logs`.

use super::find::find;
use crate::cli::render::{paint, style};
use crate::cli::{Failure, Outcome, Session, exit};
use crate::clock::rfc3339;
use anyhow::anyhow;
use clap::Args;
use runtime::container::state::Timestamp;
use runtime::container::{self, Follow, LogQuery, LogRecord, LogStream};
use spec::value::ContainerId;
use std::ops::ControlFlow;

/// Show what containers wrote, oldest first.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Names or ids; with several, each line says whose it is
    #[arg(required = true)]
    containers: Vec<String>,
    /// Go on until the container exits
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Only from then on: a time (2026-01-31T12:00:00Z) or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before then: a time or how long ago
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,
    /// The time before each line
    #[arg(short, long)]
    timestamps: bool,
}

pub(super) fn run(args: &LogsArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let ids = find(&engine, &args.containers)?;
    let now = session.now();
    let moment = |text: &Option<String>| text.as_deref().map(|text| parse_moment(text, now)).transpose();
    let (since, until) = (moment(&args.since)?, moment(&args.until)?);
    let follow = if args.follow { Follow::UntilExit } else { Follow::Stop };
    let query = LogQuery { tail: args.tail, since, until, follow };
    let named = ids.len() > 1;
    // One thread a container, so that followed ones do not wait for each other.
    std::thread::scope(|scope| {
        let readers: Vec<_> = ids
            .iter()
            .map(|id| {
                let show = move |record: LogRecord| {
                    print(args, session, named.then_some(id), &record);
                    ControlFlow::Continue(())
                };
                let places = engine.places();
                scope.spawn(move || container::logs(places, id, query, show))
            })
            .collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().map_err(|_| anyhow!("reading logs ended unexpectedly"))?.map_err(Failure::from))
    })?;
    Ok(exit::DONE)
}

fn print(args: &LogsArgs, session: &Session, id: Option<&ContainerId>, record: &LogRecord) {
    if session.render.json {
        let stream = match record.stream {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
        };
        let time = rfc3339(record.time);
        return session.render.json_line(&serde_json::json!({"container": id, "stream": stream, "time": time, "log": record.text}));
    }
    let mut line = String::new();
    if let Some(id) = id {
        line.push_str(&paint(style::FAINT, format_args!("{} | ", id.name)));
    }
    if args.timestamps {
        line.push_str(&paint(style::FAINT, format_args!("{} ", rfc3339(record.time))));
    }
    line.push_str(&record.text);
    match record.stream {
        LogStream::Stdout => session.render.text(&line),
        LogStream::Stderr => session.render.say_text(&line),
    }
}

fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(ago) = spec::value::duration::parse(text) {
        return Ok(Timestamp(now.0.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| Failure::Error {
        error: anyhow!("{text:?} is neither a time nor a duration"),
        hint: Some("write 10m, or 2026-01-31T12:00:00Z".to_owned()),
    })?;
    Ok(Timestamp(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)))
}
