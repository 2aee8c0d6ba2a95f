//! Both directions with a real `python3`, 3.8 or newer; skipped where there is none.
//!
//! Python's resource tracker unlinks at the end of a program all names that it made or opened. So the
//! scripts say `track=False` (3.13), or tell the tracker to forget them.

use std::process::Command;

use manyhands_shm::named::{Item, ShareableList, SharedMemory};

use crate::name;

/// What all scripts begin with.
const PROLOGUE: &str = "
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory, ShareableList
name = sys.argv[1]
def forget(memory):
    resource_tracker.unregister(memory._name, 'shared_memory')
    return memory
";

/// Runs a script; its output, or `None` when there is no Python that is new enough.
fn python(least: (u32, u32), name: &str, script: &str) -> Option<String> {
    let version = "import sys; print(*sys.version_info[:2])";
    let told = Command::new("python3").args(["-c", version]).output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let numbers: Vec<u32> = told
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    if numbers[..] < [least.0, least.1][..] {
        println!("skipped: no python3 of {}.{} or newer", least.0, least.1);
        return None;
    }
    let output = Command::new("python3")
        .args(["-c", &format!("{PROLOGUE}{script}"), name])
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    Some(
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned(),
    )
}

#[test]
fn python_reads_and_writes_memory_that_we_made() {
    let name = name("ours");
    let memory = SharedMemory::create(&name, 5000).expect("room");
    memory.write_at(0, b"from Rust").expect("inside");
    let script = "
memory = forget(SharedMemory(name=name))
print(memory.name == name, memory.size, bytes(memory.buf[:9]))
memory.buf[4990:5000] = b'and Python'
memory.close()
";
    if let Some(told) = python((3, 8), &name, script) {
        assert_eq!(told, "True 5000 b'from Rust'");
        assert_eq!(&memory.to_vec()[4990..], b"and Python");
    }
    memory.unlink().expect("Python left it its name");
}

#[test]
fn we_read_and_write_memory_that_python_made() {
    let name = name("theirs");
    let create = "
memory = forget(SharedMemory(name=name, create=True, size=3000))
memory.buf[:11] = b'from Python'
memory.close()
";
    let Some(_) = python((3, 8), &name, create) else {
        return;
    };
    let memory = SharedMemory::open(&name).expect("Python made it");
    assert!(memory.size() >= 3000);
    assert_eq!(&memory.to_vec()[..11], b"from Python");
    memory.write_at(2990, b"from Rust").expect("inside");
    // It unlinks too, and we see that.
    let read = "
memory = SharedMemory(name=name)
print(bytes(memory.buf[2990:2999]))
memory.close()
memory.unlink()
";
    assert_eq!(
        python((3, 8), &name, read).expect("it was there"),
        "b'from Rust'"
    );
    assert!(SharedMemory::open(&name).is_err() && memory.unlink().is_err());
}

#[test]
fn python_without_tracking_needs_no_help() {
    let name = name("untracked");
    let memory = SharedMemory::create(&name, 8).expect("room");
    let script = "
memory = SharedMemory(name=name, track=False)
memory.buf[0] = 7
memory.close()
";
    if python((3, 13), &name, script).is_some() {
        assert_eq!(memory.to_vec()[0], 7);
    }
    memory.unlink().expect("Python left it its name");
}

#[test]
fn python_reads_and_writes_a_list_that_we_made() {
    let name = name("our-list");
    let items = [
        Item::from("hello"),
        (&b"bytes\0\0"[..]).into(),
        i64::MIN.into(),
        0.5.into(),
        true.into(),
        ().into(),
        "\u{e4}\u{20ac}\u{1f600} beyond ASCII".into(),
        "".into(),
    ];
    let list = ShareableList::create(&name, items).expect("room");
    let script = "
values = ShareableList(name=name)
forget(values.shm)
print(ascii(list(values)), values.format)
print(values.index(0.5), values.count(None), len(values))
values[0] = 'olleh'
values[2] = -5
values[3] = 'text'
values[4] = None
values[5] = False
values[6] = 'short'
try:
    values[0] = 'longer than eight'
except ValueError:
    print('too long')
values.shm.close()
";
    if let Some(told) = python((3, 9), &name, script) {
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines[0],
            "['hello', b'bytes', -9223372036854775808, 0.5, True, None, \
             '\\xe4\\u20ac\\U0001f600 beyond ASCII', ''] 8s8sqdxxxxxxx?xxxxxx?x24s8s"
        );
        assert_eq!(lines[1..], ["3 1 8", "too long"]);
        let read: Result<Vec<Item>, _> = list.iter().collect();
        let expected = [
            Item::from("olleh"),
            (&b"bytes"[..]).into(),
            (-5).into(),
            "text".into(),
            ().into(),
            false.into(),
            "short".into(),
            "".into(),
        ];
        assert_eq!(read.expect("values"), expected);
    }
    list.memory().unlink().expect("Python left it its name");
}

#[test]
fn we_read_and_write_a_list_that_python_made() {
    let name = name("their-list");
    let create = "
values = ShareableList(['howdy', b'HoWdY', -273.154, 100, None, True, 42, 'x' * 100], name=name)
forget(values.shm)
print(values.format)
values.shm.close()
";
    let Some(format) = python((3, 9), &name, create) else {
        return;
    };
    let list = ShareableList::open(&name).expect("Python made it");
    assert_eq!(list.format().expect("formats"), format);
    let read: Result<Vec<Item>, _> = list.iter().collect();
    let expected = [
        Item::from("howdy"),
        (&b"HoWdY"[..]).into(),
        (-273.154).into(),
        100.into(),
        ().into(),
        true.into(),
        42.into(),
        "x".repeat(100).into(),
    ];
    assert_eq!(read.expect("values"), expected);
    list.set(0, ()).expect("it fits");
    list.set(1, 2.5).expect("it fits");
    list.set(3, "text").expect("it fits");
    list.set(4, false).expect("it fits");
    list.set(5, i64::MAX).expect("it fits");
    list.set(6, b"a\0b".to_vec()).expect("it fits");
    list.set(7, "y".repeat(104)).expect("it fits exactly");
    assert!(list.set(7, "y".repeat(105)).is_err());
    let read = "
values = ShareableList(name=name)
print(list(values)[:7], values[7] == 'y' * 104)
values.shm.close()
values.shm.unlink()
";
    let told = python((3, 9), &name, read).expect("it was there");
    assert_eq!(
        told,
        "[None, 2.5, -273.154, 'text', False, 9223372036854775807, b'a\\x00b'] True"
    );
    assert!(ShareableList::open(&name).is_err());
}

#[test]
fn layout_of_a_list_is_that_of_python_to_the_byte() {
    let (ours, theirs) = (name("bytes-ours"), name("bytes-theirs"));
    let script = "
values = ShareableList(['text', b'bytes', 1, 2.5, True, False, None, 'x' * 8, b''], name=name)
forget(values.shm)
values.shm.close()
";
    let Some(_) = python((3, 9), &theirs, script) else {
        return;
    };
    let items = [
        Item::from("text"),
        (&b"bytes"[..]).into(),
        1.into(),
        2.5.into(),
        true.into(),
        false.into(),
        ().into(),
        "x".repeat(8).into(),
        Vec::new().into(),
    ];
    let list = ShareableList::create(&ours, items).expect("room");
    let memory = SharedMemory::open(&theirs).expect("Python made it");
    assert_eq!(list.memory().to_vec(), memory.to_vec());
    memory.unlink().expect("it has its name");
    list.memory().unlink().expect("it has its name");
}
