//! Processes that die in many ways, of what only unsafe code can do, and what their parents learn.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use manyhands_os::process::Pidfd;
use manyhands_process::{
    Callable, Exit, Limits, Process, ProcessBuilder, ProcessError, SpawnError, StartMethod,
};
use manyhands_shm::Shared;
use manyhands_sync::Event;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{LONG, SOON};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];

fn no_core() -> Limits {
    Limits {
        core: Some(0),
        ..Limits::default()
    }
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("second");
    }
}

fn panic_twice() {
    let _bomb = PanicsInDrop;
    panic!("first");
}

/// Has a fork of this process die, then waits.
fn fork_dies(by_panic: bool, ready: Shared<Event>) {
    // SAFETY: the fork calls what it is to die of: a panic that this process begins with its lock
    // for output free, or an abort.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child if by_panic => panic_twice(),
        ForkResult::Child => std::process::abort(),
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("its status");
            assert!(matches!(status, WaitStatus::Signaled(..)), "{status:?}");
        }
    }
    ready.set();
    wait_for_ever();
}

/// The handlers and the shared page are the fork's too, so its last note was taken for that of the
/// process: who was killed later, from outside, had panicked.
#[test]
fn death_of_a_raw_fork_does_not_explain_a_later_kill() {
    for method in METHODS {
        for by_panic in [true, false] {
            let ready = Shared::new(Event::new()).expect("space");
            let builder = Process::builder().start_method(method).limits(no_core());
            let mut process = builder
                .spawn(fork_dies, (by_panic, ready.clone()))
                .expect("it starts");
            assert!(ready.wait_timeout(LONG), "the fork does not die");
            let pidfd = Pidfd::open(process.id()).expect("it runs");
            pidfd.signal(9).expect("it is sent");
            let error = process.join().expect_err("it was killed");
            let exit = error.exit().expect("it ended");
            assert!(
                matches!(exit, Exit::Signaled { signal: 9, .. }),
                "{method:?}: {exit}"
            );
        }
    }
}

/// What a process does that is to die, and of which signal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Deed {
    ReadNull,
    ReadBehindFile,
    Divide,
    Undefined,
    Abort,
    SignalItself(i32),
}

const PLACE: usize = 0x1000;

fn does(deed: Deed) {
    match deed {
        Deed::ReadNull => {
            let place = std::ptr::without_provenance::<u8>(PLACE);
            // SAFETY: none: nothing is mapped so low, and this process is to die of it.
            unsafe { std::hint::black_box(place.read_volatile()) };
        }
        Deed::ReadBehindFile => {
            let file = tempfile::tempfile().expect("a file");
            let flags = nix::sys::mman::MapFlags::MAP_SHARED;
            let readable = nix::sys::mman::ProtFlags::PROT_READ;
            let page = std::num::NonZeroUsize::new(4096).expect("not zero");
            // SAFETY: a new map, at an address that the kernel chooses.
            let map = unsafe { nix::sys::mman::mmap(None, page, readable, flags, &file, 0) };
            let place = map.expect("a map").cast::<u8>();
            // SAFETY: none: the file has no byte there, and this process is to die of it.
            unsafe { std::hint::black_box(place.read_volatile()) };
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: none: the division by zero is what this process is to die of.
        Deed::Divide => unsafe {
            std::arch::asm!("xor edx, edx", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _);
        },
        #[cfg(not(target_arch = "x86_64"))]
        // This processor divides by zero without a fault.
        Deed::Divide => does(Deed::SignalItself(8)),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: none: the instruction is what this process is to die of.
        Deed::Undefined => unsafe { std::arch::asm!("ud2") },
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: none: the instruction is what this process is to die of.
        Deed::Undefined => unsafe { std::arch::asm!("udf #0") },
        Deed::Abort => std::process::abort(),
        Deed::SignalItself(signal) => {
            let myself = Pidfd::open(std::process::id()).expect("it runs");
            myself.signal(signal).expect("it is sent");
            wait_for_ever();
        }
    }
}

/// The signal, its code and whether it has an address, of what a process died of.
fn told(method: StartMethod, deed: Deed) -> (i32, Option<i32>, Option<u64>) {
    let builder = Process::builder().start_method(method).limits(no_core());
    let mut process = builder.spawn(does, (deed,)).expect("it starts");
    let error = process.join().expect_err("it dies");
    match error.exit() {
        Some(Exit::Signaled {
            signal,
            code,
            address,
            by_us: false,
            ..
        }) => (*signal, *code, *address),
        _ => panic!("{method:?}, {deed:?}: {error}"),
    }
}

#[test]
fn faults_are_told_with_reason_and_address() {
    const SI_USER: i32 = 0;
    const SI_TKILL: i32 = -6;
    for method in METHODS {
        // SEGV_MAPERR, and the address itself.
        assert_eq!(
            told(method, Deed::ReadNull),
            (11, Some(1), Some(PLACE as u64))
        );
        // BUS_ADRERR.
        let (signal, code, address) = told(method, Deed::ReadBehindFile);
        assert_eq!((signal, code), (7, Some(2)));
        assert!(address.is_some());
        let (signal, code, address) = told(method, Deed::Undefined);
        assert_eq!(signal, 4);
        assert!(code > Some(0) && address.is_some());
        let (signal, code, address) = told(method, Deed::Divide);
        assert_eq!(signal, 8);
        if cfg!(target_arch = "x86_64") {
            // FPE_INTDIV.
            assert!(code == Some(1) && address.is_some());
        }
        assert_eq!(told(method, Deed::Abort), (6, Some(SI_TKILL), None));
        for signal in [4, 7, 8, 11, 24] {
            let expected = (signal, Some(SI_USER), None);
            assert_eq!(told(method, Deed::SignalItself(signal)), expected);
        }
        // Nobody catches it, so nobody can tell.
        assert_eq!(told(method, Deed::SignalItself(15)), (15, None, None));
    }
}

/// What a parent is told, without what differs from run to run.
fn kind<R: std::fmt::Debug>(outcome: Result<R, Told>) -> String {
    match outcome.expect_err("it brings no value") {
        Told::Join(error) => error.exit().map_or_else(|| error.to_string(), kind_of_exit),
        Told::Spawn(SpawnError::Undecodable { .. }) => "arguments not decoded".to_owned(),
        Told::Spawn(SpawnError::HookDidNotRun) => NO_HOOK.to_owned(),
        Told::Spawn(SpawnError::Os(error)) => format!("{}: {:?}", error.call, error.source.kind()),
        Told::Spawn(other) => panic!("{other}"),
    }
}

fn kind_of_exit(exit: &Exit) -> String {
    match exit {
        Exit::Exited(code) => format!("exit {code}"),
        Exit::Signaled { signal, by_us, .. } => format!("signal {signal}, by us: {by_us}"),
        Exit::StackOverflow => "stack overflow".to_owned(),
        Exit::Panicked(panic) => format!("panic: {}", panic.message),
        Exit::PanicAborted(panic) => format!("abort by panic: {}", panic.message),
        Exit::MemoryLimit { allowed, .. } => format!("memory limit of {allowed}"),
        Exit::ProcessorLimit { allowed } => format!("processor limit of {allowed:?}"),
        other => panic!("{other}"),
    }
}

const NO_HOOK: &str = "no hook";
const NO_IMAGE: &str = "posix_spawn: NotFound";

/// Why there is no value.
#[derive(Debug)]
enum Told {
    Spawn(SpawnError),
    Join(ProcessError),
}

/// What a parent learns of a process that dies by itself, or by what is done to it.
fn outcome<A, F>(
    builder: &ProcessBuilder,
    function: F,
    arguments: A,
    done: impl FnOnce(&Process<F::Output>),
) -> String
where
    F: Callable<A>,
    A: Serialize + Deserialize<'static>,
    F::Output: Serialize + DeserializeOwned + std::fmt::Debug,
{
    let started = builder.spawn(function, arguments).map_err(Told::Spawn);
    kind(started.and_then(|mut process| {
        done(&process);
        process.join().map_err(Told::Join)
    }))
}

#[allow(unconditional_recursion, reason = "the overflow is what is tested")]
fn down(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 128]);
    down(depth + 1) + page[7]
}

fn spin() -> u64 {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}

fn allocate(bytes: usize) -> u8 {
    std::hint::black_box(vec![1_u8; bytes])[bytes / 2]
}

fn ignore_sigterm(ready: Shared<Event>) {
    manyhands_os::signals::blocked(|| {
        ready.set();
        wait_for_ever();
    });
}

/// Can be sent, but not received.
#[derive(Serialize)]
struct Sour;

impl<'de> Deserialize<'de> for Sour {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("it is sour"))
    }
}

/// What a spawn says where there are no files, so that there is nothing to start. Only the superuser
/// can take them away.
fn spawn_without_image() -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    let mut inside = Process::spawn(without_image, (path,)).expect("it starts");
    inside.join().expect("it says what it was told")
}

fn without_image(folder: String) -> Option<String> {
    match std::os::unix::fs::chroot(folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        other => other.expect("it is a folder"),
    }
    let builder = Process::builder().start_method(StartMethod::Exec);
    Some(outcome(&builder, || (), (), |_| ()))
}

/// This program as a linker leaves it that has dropped the constructors: nothing of them runs.
fn without_constructors(program: &mut [u8]) {
    let read = |program: &[u8], at: usize, len: usize| {
        let bytes = program[at..at + len].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    const PT_DYNAMIC: usize = 2;
    const DT_INIT_ARRAYSZ: usize = 27;
    let (headers, size, count) = (
        read(program, 32, 8),
        read(program, 54, 2),
        read(program, 56, 2),
    );
    let mut headers = (0..count).map(|index| headers + index * size);
    let dynamic = headers.find(|header| read(program, *header, 4) == PT_DYNAMIC);
    let dynamic = dynamic.expect("it is linked to the C library");
    let (begin, len) = (
        read(program, dynamic + 8, 8),
        read(program, dynamic + 32, 8),
    );
    let mut entries = (begin..begin + len).step_by(16);
    let entry = entries.find(|entry| read(program, *entry, 8) == DT_INIT_ARRAYSZ);
    let value = entry.expect("it has constructors") + 8;
    program[value..value + 8].fill(0);
}

const WITHOUT_HOOK: &str = "MANYHANDS_TESTS_WITHOUT_HOOK";

#[test]
fn process_is_started_if_the_hook_ran_and_only_then() {
    let outcome = Process::spawn(|| 42, ()).map_err(Told::Spawn);
    let outcome = outcome.and_then(|mut process| process.join().map_err(Told::Join));
    if std::env::var_os(WITHOUT_HOOK).is_some() {
        return assert_eq!(kind(outcome), NO_HOOK);
    }
    assert_eq!(outcome.expect("it starts"), 42);
}

/// Runs the test above in a program whose hook does not run.
fn spawn_without_hook() -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("without-hook");
    let mut program = std::fs::read("/proc/self/exe").expect("it is there");
    without_constructors(&mut program);
    std::fs::write(&path, program).expect("there is room");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&path, executable).expect("it is ours");
    let test = "deaths::process_is_started_if_the_hook_ran_and_only_then";
    let output = Command::new(&path)
        .args(["--exact", test])
        .env(WITHOUT_HOOK, "1")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    NO_HOOK.to_owned()
}

/// A death, as it should be told, and as it was.
type Row = (&'static str, String);

/// By what the process itself does.
fn own_deaths(builder: &ProcessBuilder) -> [Row; 7] {
    let dies = |deed: Deed| outcome(builder, does, (deed,), |_| ());
    let exit = || std::process::exit(3);
    let panic = || panic!("only one");
    [
        ("exit 3", outcome(builder, exit, (), |_: &Process<()>| ())),
        ("signal 6, by us: false", dies(Deed::Abort)),
        ("signal 11, by us: false", dies(Deed::ReadNull)),
        ("signal 7, by us: false", dies(Deed::ReadBehindFile)),
        ("stack overflow", outcome(builder, down, (0,), |_| ())),
        (
            "panic: only one",
            outcome(builder, panic, (), |_: &Process<()>| ()),
        ),
        (
            "abort by panic: second",
            outcome(builder, panic_twice, (), |_| ()),
        ),
    ]
}

/// By limits and by others.
fn inflicted_deaths(builder: &ProcessBuilder) -> [Row; 4] {
    let memory = Limits {
        memory: Some(64 << 20),
        ..no_core()
    };
    let time = Limits {
        processor_time: Some(Duration::from_secs(1)),
        ..no_core()
    };
    let limited = |limits| builder.clone().limits(limits);
    let kill = |process: &Process<()>| {
        let id = process.id().to_string();
        let status = Command::new("kill").args(["-9", &id]).status();
        assert!(status.expect("it runs").success());
    };
    let ready = Shared::new(Event::new()).expect("space");
    let stop = |process: &Process<()>| {
        assert!(ready.wait_timeout(LONG));
        process.stop(SOON).expect("it is sent");
    };
    [
        (
            "memory limit of 67108864",
            outcome(&limited(memory), allocate, (1 << 30,), |_| ()),
        ),
        (
            "processor limit of 1s",
            outcome(&limited(time), spin, (), |_| ()),
        ),
        (
            "signal 9, by us: false",
            outcome(builder, wait_for_ever, (), kill),
        ),
        (
            "signal 9, by us: true",
            outcome(builder, ignore_sigterm, (ready.clone(),), stop),
        ),
    ]
}

/// Each death is told as itself, and none as another.
#[test]
fn fourteen_deaths_are_told_apart() {
    for method in METHODS {
        let builder = Process::builder().start_method(method).limits(no_core());
        let no_image = spawn_without_image().unwrap_or_else(|| {
            eprintln!("left out: an image that is not there, for want of rights");
            NO_IMAGE.to_owned()
        });
        let stillborn = [
            (NO_IMAGE, no_image),
            (
                "arguments not decoded",
                outcome(&builder, |_: Sour| (), (Sour,), |_| ()),
            ),
            (NO_HOOK, spawn_without_hook()),
        ];
        let table = own_deaths(&builder)
            .into_iter()
            .chain(inflicted_deaths(&builder));
        let table: Vec<Row> = table.chain(stillborn).collect();
        for (expected, told) in &table {
            assert_eq!(told, expected, "{method:?}");
        }
        let kinds: BTreeSet<&String> = table.iter().map(|(_, told)| told).collect();
        assert_eq!((table.len(), kinds.len()), (14, 14));
    }
}
