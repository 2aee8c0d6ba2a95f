//! What is left after many processes: nothing. The only test of its program, since it counts what all
//! tests of a program share.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_process::{Process, StartMethod};
use manyhands_shm::arena;

mod common;

use common::{children, zygote_and_spare};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const LONG: Duration = Duration::from_secs(60);

/// What the descriptors of this process are; sockets without their numbers, for each process that is
/// forked ahead has another one.
fn descriptors() -> Vec<String> {
    let mut kinds: Vec<String> = fs::read_dir("/proc/self/fd")
        .expect("/proc")
        .filter_map(|entry| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            let target = target.to_str()?;
            let is_the_list_itself = target.ends_with("/fd");
            let kind = target.split_once(":[").map_or(target, |(kind, _)| kind);
            (!is_the_list_itself).then(|| kind.to_owned())
        })
        .collect();
    kinds.sort();
    kinds
}

#[test]
fn two_hundred_processes_leave_no_zombie_no_descriptor_and_no_memory() {
    let spawn_one = |method, n: u64| {
        let builder = Process::builder().start_method(method);
        builder
            .spawn(|n: u64| vec![n; 1000], (n,))
            .expect("it starts")
    };
    let mut first = spawn_one(StartMethod::Zygote, 0);
    assert_eq!(first.join().expect("a value").len(), 1000);
    drop(first);
    let arena = arena::family().expect("an arena");
    let (before, used) = (descriptors(), arena.stats());
    for n in 0..200 {
        let method = METHODS[usize::from(n % 4 != 0)];
        let mut process = spawn_one(method, n);
        match n % 3 {
            // Joined, dropped while it may run, and killed.
            0 => assert_eq!(process.join().expect("a value")[0], n),
            1 => drop(process),
            _ => {
                process.kill().expect("it is sent");
                let _ = process.join();
            }
        }
    }
    // What was dropped is cleaned up by whoever comes later, when it has ended.
    let kept = zygote_and_spare();
    for (pid, _) in children() {
        if !kept.contains(&pid)
            && let Ok(pidfd) = Pidfd::open(pid)
        {
            let ended = poll_readable(&[pidfd.as_fd()], Deadline::after(LONG));
            assert!(ended.expect("poll")[0], "{pid} goes on");
        }
    }
    drop(spawn_one(StartMethod::Zygote, 0).join().expect("a value"));
    let kept = zygote_and_spare();
    let left = children();
    assert_eq!(left.len(), 2, "{left:?} for {kept:?}");
    assert!(left.iter().all(|(pid, _)| kept.contains(pid)), "{left:?}");
    assert_eq!(descriptors(), before);
    let now = arena.stats();
    assert_eq!(format!("{:?}", now.classes), format!("{:?}", used.classes));
}
