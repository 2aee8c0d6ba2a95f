//! Processes that die in many ways, of what only unsafe code can do, and what their parents learn.

use manyhands_os::process::Pidfd;
use manyhands_process::{Exit, Limits, Process, StartMethod};
use manyhands_shm::Shared;
use manyhands_sync::Event;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::LONG;

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

/// Has a fork of this process die, then waits.
fn fork_dies(by_panic: bool, ready: Shared<Event>) {
    // SAFETY: the fork calls what it is to die of: a panic that this process begins with its lock
    // for output free, or an abort.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child if by_panic => {
            let _bomb = PanicsInDrop;
            panic!("first");
        }
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
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
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
