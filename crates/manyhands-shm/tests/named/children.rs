//! Children that take one command a line and answer it: order between processes without time.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_shm::named::{self, Segment, SegmentOf, ShareableList, SharedMemory, Swept};

/// Says what the child is to do.
const TASK: &str = "MANYHANDS_NAMED_TASK";

/// How answers begin, so that they are told from what the test harness prints.
const ANSWER: &str = "answer: ";

/// A child that serves commands; killed and waited for at the end.
pub(crate) struct Actor {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn start() -> Actor {
        Actor::start_by(this_program("serve"))
    }

    /// Starts a child by a command of [`this_program`], or around it.
    pub(crate) fn start_by(mut command: Command) -> Actor {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        Actor {
            commands: child.stdin.take().expect("piped"),
            answers: BufReader::new(child.stdout.take().expect("piped")),
            child,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has a command done, and returns the answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("the child reads");
    }

    pub(crate) fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            let len = self.answers.read_line(&mut line).expect("the child writes");
            assert!(len > 0, "the child ended without an answer");
            // The harness does not end its line before a test that prints.
            if let Some((_, answer)) = line.split_once(ANSWER) {
                return answer.trim_end().to_owned();
            }
        }
    }

    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().expect("it is ours");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command that starts this program as a child with a task.
pub(crate) fn this_program(task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "children::child", "--nocapture"])
        .env(TASK, task);
    command
}

/// The same through a shell, which does something before; `"$@"` is this program.
pub(crate) fn this_program_after(before: &str, task: &str) -> Command {
    let program = this_program(task);
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{before}; exec \"$@\""), "sh"])
        .arg(program.get_program())
        .args(program.get_args())
        .env(TASK, task);
    command
}

/// The entry of all children; does nothing when run as a test.
#[test]
fn child() {
    match std::env::var(TASK).as_deref() {
        Ok("serve") => serve(),
        Ok("storm") => crate::killed::storm(),
        Ok("space") => crate::space::small_file_system(),
        Ok("limit") => crate::space::small_file_limit(),
        Ok(other) => panic!("no task is called {other}"),
        Err(_) => {}
    }
}

fn answer(text: &str) {
    println!("{ANSWER}{text}");
}

fn serve() {
    let mut segments: Vec<Segment> = Vec::new();
    let mut owned: Vec<SharedMemory> = Vec::new();
    let mut lines = std::io::stdin().lines();
    while let Some(line) = lines.next() {
        let line = line.expect("the parent writes");
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["create", name] => {
                segments.push(Segment::create(name, 64).expect("room"));
                answer("created");
            }
            // Answers while it fills, and goes on with the next line.
            ["create-slowly", name] => {
                let segment = Segment::create_with(name, 64, |bytes| {
                    answer("filling");
                    lines.next().expect("the parent waits").expect("it writes");
                    bytes.write_at(0, b"filled").expect("inside");
                });
                segments.push(segment.expect("room"));
                answer("created");
            }
            ["open", name] => {
                segments.push(Segment::open(name).expect("it is there"));
                answer("open");
            }
            ["own", name] => {
                owned.push(SharedMemory::create_owned(name, 64).expect("room"));
                answer("owned");
            }
            ["close"] => {
                segments.clear();
                owned.clear();
                answer("closed");
            }
            ["sweep"] => {
                let Swept { removed, .. } = named::sweep().expect("the folder can be read");
                answer(&removed.join(" "));
            }
            ["add", name] => {
                let number = SegmentOf::<AtomicU64>::open(name).expect("it is there");
                answer(&number.fetch_add(1, Relaxed).to_string());
            }
            ["memory", name, text] => {
                let memory = SharedMemory::open(name).expect("it is there");
                memory.write_at(0, text.as_bytes()).expect("inside");
                answer(&format!("{memory:?}"));
            }
            ["memory-by-handle", handle, text] => {
                let memory: SharedMemory = from_hex(handle);
                memory.write_at(0, text.as_bytes()).expect("inside");
                answer(memory.name());
            }
            ["list-by-handle", handle, text] => {
                let list: ShareableList = from_hex(handle);
                list.set(0, text).expect("it fits");
                answer(&list.len().to_string());
            }
            _ => panic!("no command: {line}"),
        }
    }
}

pub(crate) fn to_hex(value: &impl serde::Serialize) -> String {
    let bytes = postcard::to_allocvec(value).expect("encodable");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex<T: serde::de::DeserializeOwned>(text: &str) -> T {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    let bytes: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
    postcard::from_bytes(&bytes).expect("the name is there")
}
