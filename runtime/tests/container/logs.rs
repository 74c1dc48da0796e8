//! Output: complete, in order, within its limits, whatever happens to the disk.

use crate::host::{eventually, host};
use runtime::container::{self, Follow, LogQuery};
use runtime::shim::log::record::Stream;
use spec::value::ByteSize;
use std::ops::ControlFlow;

#[test]
fn a_hundred_thousand_lines_are_complete_across_rotation() {
    let Some(host) = host() else { return };
    let config = host.config("loud@1", "seq 1 100000; echo done >&2");
    host.run(&config);
    assert_eq!(host.exit(&config.id).code, 0);
    let records = host.logs(&config.id);
    // A line whose end was late in coming is two records.
    let numbers: Vec<u32> = host.stdout(&config.id).lines().map(|line| line.parse().expect("number")).collect();
    assert!(numbers.iter().copied().eq(1..=100_000), "{} lines", numbers.len());
    assert!(records.contains(&(Stream::Stderr, "done\n".to_owned())));
    assert!(host.places.container(&config.id).join("logs/current.log.5").exists(), "it was rotated");
}

#[test]
fn old_output_goes_first() {
    let Some(host) = host() else { return };
    let mut config = host.config("limited@1", "seq 1 20000");
    config.logs.max_size = ByteSize::from_bytes(100_000);
    config.logs.max_files = 3;
    host.run(&config);
    host.exit(&config.id);
    let size: u64 = std::fs::read_dir(host.places.container(&config.id).join("logs"))
        .expect("logs")
        .map(|entry| entry.expect("entry").metadata().expect("metadata").len())
        .sum();
    assert!(size <= 300_000, "{size} bytes");
    let text = host.stdout(&config.id);
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().expect("number")).collect();
    assert_eq!(numbers.last(), Some(&20_000));
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[test]
fn output_without_a_line_end_is_kept() {
    let Some(host) = host() else { return };
    let config = host.config("unended@1", "echo -n last words");
    host.run(&config);
    host.exit(&config.id);
    assert_eq!(host.stdout(&config.id), "last words");
}

#[test]
fn a_follower_sees_everything_and_ends_with_the_container() {
    let Some(host) = host() else { return };
    let config = host.config("followed@1", "for i in 1 2 3 4 5; do seq 1 2000; sleep 0.05; done");
    host.run(&config);
    let mut count = 0;
    let query = LogQuery { follow: Follow::UntilExit, ..LogQuery::default() };
    container::logs(&host.places, &config.id, query, |_| {
        count += 1;
        ControlFlow::Continue(())
    })
    .expect("logs");
    assert_eq!(count, 10_000);
    let mut last = Vec::new();
    container::logs(&host.places, &config.id, LogQuery { tail: Some(2), ..LogQuery::default() }, |record| {
        last.push(record.text);
        ControlFlow::Continue(())
    })
    .expect("logs");
    assert_eq!(last, ["1999\n", "2000\n"]);
}

#[test]
fn a_full_disk_stops_nothing_and_is_said() {
    let Some(host) = host() else { return };
    let config =
        host.config("full@1", "seq 1 30000; echo survived >/tmp/mark; while test ! -e /tmp/room; do sleep 0.05; done; echo after; exit 4");
    host.create(&config);
    let logs = host.places.container(&config.id).join("logs");
    let options = c"size=64k";
    rustix::mount::mount("tmpfs", &logs, "tmpfs", rustix::mount::MountFlags::empty(), options).expect("mount");
    let result = std::panic::catch_unwind(|| {
        container::start(&host.places, &config.id).expect("start");
        let upper = host.inside(&config.id, "tmp");
        eventually("it got through", || upper.join("mark").exists());
        assert!(host.inspect(&config.id).shim_alive);
        let bigger = rustix::mount::mount_remount(&logs, rustix::mount::MountFlags::empty(), c"size=8m");
        bigger.expect("remount");
        std::fs::write(upper.join("room"), "").expect("write");
        assert_eq!(host.exit(&config.id).code, 4);
        let records = host.logs(&config.id);
        assert!(records.iter().any(|(_, text)| text.contains("lines of output are lost")), "{:?}", records.last());
        assert_eq!(records.last(), Some(&(Stream::Stdout, "after\n".to_owned())));
    });
    rustix::mount::unmount(&logs, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
