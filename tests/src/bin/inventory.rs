//! The proof that the whole suite leaves nothing behind: `inventory` before it, `inventory FILE` after it.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests::inventory::Inventory;

/// How long what was ended may take to be gone: the kernel removes namespaces in its own time.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        print!("{}", Inventory::take().to_text());
        return ExitCode::SUCCESS;
    };
    let before = match std::fs::read_to_string(&file) {
        Ok(text) => Inventory::from_text(&text),
        Err(error) => {
            eprintln!("read {file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = Inventory::take();
        let (more, less) = (now.since(&before), before.since(&now));
        if more.is_empty() && less.is_empty() {
            println!("The host is as it was before the tests.");
            return ExitCode::SUCCESS;
        }
        if Instant::now() > deadline {
            more.iter().for_each(|line| eprintln!("left behind: {line}"));
            less.iter().for_each(|line| eprintln!("taken away:  {line}"));
            return ExitCode::FAILURE;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
