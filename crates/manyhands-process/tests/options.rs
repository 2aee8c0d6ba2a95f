//! What can be chosen for a process, in real processes of both start methods.

#![allow(clippy::print_stdout, reason = "what children print is tested")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write, read_to_string};
use std::process::Command;

use manyhands_process::{Exit, Process, ProcessBuilder, SpawnError, StartMethod, Stdio, inherited};
use manyhands_shm::Shared;
use manyhands_sync::Event;

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];

/// Runs a test with a builder of each method.
fn each(test: impl Fn(ProcessBuilder)) {
    for method in METHODS {
        test(Process::builder().start_method(method));
    }
}

fn setup_refusal(error: SpawnError) -> String {
    match error {
        SpawnError::Setup { reason } => reason,
        other => panic!("{other}"),
    }
}

type Variables = BTreeSet<(String, String)>;

/// The environment, as this process sees it, and as a program sees it that it starts.
fn environment() -> (Variables, Variables) {
    let output = Command::new("/usr/bin/env").output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let theirs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (std::env::vars().collect(), theirs.collect())
}

fn pairs(pairs: &[(&str, &str)]) -> Variables {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn environment_is_what_was_chosen() {
    each(|builder| {
        let cleared = builder.clone().env("GONE", "1").env_clear();
        let cleared = cleared
            .env("A", "1")
            .env("B", "x=y")
            .env("A", "2")
            .env_remove("C");
        let (own, started) = cleared
            .spawn(environment, ())
            .expect("it starts")
            .join()
            .expect("a value");
        let expected = pairs(&[("A", "2"), ("B", "x=y")]);
        assert_eq!((&own, &started), (&expected, &expected));
        let (name, value) = std::env::vars().next().expect("there is one");
        let changed = builder.env_remove(&name).env("MORE", "\u{e4}");
        let (own, started) = changed
            .spawn(environment, ())
            .expect("it starts")
            .join()
            .expect("a value");
        let mut expected: Variables = std::env::vars().collect();
        expected.remove(&(name, value));
        expected.insert(("MORE".to_owned(), "\u{e4}".to_owned()));
        assert_eq!(own, expected);
        assert!(started.contains(&("MORE".to_owned(), "\u{e4}".to_owned())));
    });
}

#[test]
fn environment_may_be_long_and_what_the_system_refuses_is_told() {
    let length = || std::env::var("LONG").map(|value| value.len()).ok();
    each(|builder| {
        let long = builder.clone().env("LONG", "x".repeat(100_000));
        assert_eq!(
            long.spawn(length, ())
                .expect("it starts")
                .join()
                .expect("a value"),
            Some(100_000)
        );
        // Longer than what the system starts a program with.
        let longer = builder.env("LONG", "x".repeat(1 << 20));
        match longer.spawn(length, ()) {
            Ok(mut fork) => assert_eq!(fork.join().expect("a value"), Some(1 << 20)),
            Err(refused) => assert!(matches!(refused, SpawnError::Os(_)), "{refused}"),
        }
    });
}

#[test]
fn variable_that_no_process_can_have_is_refused() {
    each(|builder| {
        for (name, value) in [("", "1"), ("A=B", "1"), ("A\0", "1"), ("A", "\0")] {
            let refused = builder.clone().env(name, value).spawn(|| (), ());
            let reason = setup_refusal(refused.expect_err("it cannot be"));
            assert!(reason.contains("environment"), "{reason}");
        }
        assert!(builder.env_remove("A=B").spawn(|| (), ()).is_err());
    });
}

#[test]
fn directory_is_what_was_chosen_or_the_spawn_is_refused() {
    let here = || std::env::current_dir().expect("there is one");
    each(|builder| {
        let mut process = builder
            .clone()
            .current_dir("/proc")
            .spawn(here, ())
            .expect("it starts");
        assert_eq!(process.join().expect("a value").as_os_str(), "/proc");
        let mut process = builder
            .clone()
            .current_dir("..")
            .spawn(here, ())
            .expect("it starts");
        let mine = here();
        assert_eq!(
            process.join().expect("a value"),
            mine.parent().expect("it has one")
        );
        let refused = builder.current_dir("/nowhere/at/all").spawn(here, ());
        let reason = setup_refusal(refused.expect_err("it is not there"));
        assert!(reason.contains("chdir(/nowhere/at/all)"), "{reason}");
        assert_eq!(here(), mine);
    });
}

/// Reads lines, and answers each on the stream that it names.
fn answer() -> usize {
    let mut count = 0;
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        match line.as_str() {
            "error" => writeln!(std::io::stderr(), "to error").expect("it is open"),
            "program" => {
                let status = Command::new("echo")
                    .arg("by a program")
                    .status()
                    .expect("it runs");
                assert!(status.success());
            }
            other => println!("to output: {other}"),
        }
        count += 1;
    }
    print!("no newline");
    count
}

#[test]
fn captured_streams_go_to_the_parent_each_apart() {
    each(|builder| {
        let builder = builder
            .stdin(Stdio::Captured)
            .stdout(Stdio::Captured)
            .stderr(Stdio::Captured);
        // Two at once: neither has the ends of the other.
        let mut first = builder.spawn(answer, ()).expect("it starts");
        let mut second = builder.spawn(answer, ()).expect("it starts");
        let mut input = first.take_stdin().expect("captured");
        let mut output = BufReader::new(first.take_stdout().expect("captured"));
        assert!(first.take_stdout().is_none());
        input.write_all(b"one\n").expect("it reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("it is open");
        assert_eq!(line, "to output: one\n");
        input.write_all(b"error\nprogram\n").expect("it reads");
        drop(input);
        let rest = read_to_string(output).expect("until the end");
        assert_eq!(rest, "by a program\nno newline");
        let errors = first.take_stderr().expect("captured");
        assert_eq!(read_to_string(errors).expect("until the end"), "to error\n");
        assert_eq!(first.join().expect("a value"), 3);
        drop(second.take_stdin());
        assert_eq!(second.join().expect("a value"), 0);
        let output = second.take_stdout().expect("captured");
        assert_eq!(read_to_string(output).expect("until the end"), "no newline");
    });
}

#[test]
fn captured_output_of_a_killed_process_comes_to_its_end() {
    fn say_and_wait() {
        println!("here");
        loop {
            std::thread::park();
        }
    }
    each(|builder| {
        let builder = builder.stdout(Stdio::Captured);
        let mut process = builder.spawn(say_and_wait, ()).expect("it starts");
        let mut output = BufReader::new(process.take_stdout().expect("captured"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it is open");
        assert_eq!(line, "here\n");
        process.kill().expect("it is sent");
        assert_eq!(output.read_line(&mut line).expect("the end"), 0);
        assert!(process.join().is_err());
    });
}

#[test]
fn null_streams_are_empty_and_take_everything() {
    fn look() -> (usize, bool) {
        let mut text = String::new();
        let len = std::io::stdin()
            .read_to_string(&mut text)
            .expect("it is open");
        println!("nobody sees this");
        let is_null = |fd| {
            let target = fs::read_link(format!("/proc/self/fd/{fd}")).expect("/proc is there");
            target.as_os_str() == "/dev/null"
        };
        (len, (0..3).all(is_null))
    }
    each(|builder| {
        let builder = builder
            .stdin(Stdio::Null)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null);
        let mut process = builder.spawn(look, ()).expect("it starts");
        assert!(process.take_stdout().is_none());
        assert_eq!(process.join().expect("a value"), (0, true));
    });
}

/// Priority and processors of each thread, the process group, and the id.
fn place() -> (BTreeSet<(i32, String)>, u32, u32) {
    let mut places = BTreeSet::new();
    let mut group = 0;
    for task in fs::read_dir("/proc/self/task").expect("/proc is there") {
        let task = task.expect("/proc is there").path();
        let texts = ["stat", "status"].map(|name| fs::read_to_string(task.join(name)));
        let [Ok(stat), Ok(status)] = texts else {
            // A thread of another test, which has ended.
            continue;
        };
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..]
            .split(' ')
            .collect();
        group = fields[2].parse().expect("a number");
        let nice = fields[16].parse().expect("a number");
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        places.insert((nice, list.expect("it is told").trim().to_owned()));
    }
    (places, group, std::process::id())
}

#[test]
fn priority_processors_and_group_are_those_of_all_threads() {
    let (mine, my_group, _) = place();
    let (nice, processors) = mine.first().expect("there is one").clone();
    let first = processors
        .split([',', '-'])
        .next()
        .expect("there is one")
        .to_owned();
    let number = first.parse().expect("a number");
    each(|builder| {
        let chosen = builder
            .clone()
            .nice(3)
            .processors([number])
            .process_group(0);
        let (theirs, group, id) = chosen
            .spawn(place, ())
            .expect("it starts")
            .join()
            .expect("a value");
        assert_eq!(
            theirs,
            BTreeSet::from([((nice + 3).min(19), first.clone())])
        );
        assert_eq!(group, id);
        let (theirs, group, _) = builder
            .spawn(place, ())
            .expect("it starts")
            .join()
            .expect("a value");
        assert_eq!((theirs, group), (mine.clone(), my_group));
        let nowhere = builder.clone().processors([]).spawn(|| (), ());
        assert!(setup_refusal(nowhere.expect_err("none")).contains("sched_setaffinity"));
        let nobody = builder.process_group(u32::MAX >> 1).spawn(|| (), ());
        assert!(setup_refusal(nobody.expect_err("no group")).contains("setpgid"));
    });
}

#[test]
fn process_joins_the_group_of_another() {
    fn wait(gate: Shared<Event>) -> u32 {
        gate.wait();
        place().1
    }
    each(|builder| {
        let gate = Shared::new(Event::new()).expect("space");
        let mut first = builder
            .clone()
            .process_group(0)
            .spawn(wait, (gate.clone(),))
            .expect("it starts");
        let mut second = builder
            .process_group(first.id())
            .spawn(wait, (gate.clone(),))
            .expect("it starts");
        gate.set();
        let leader = first.id();
        assert_eq!(first.join().expect("a value"), leader);
        assert_eq!(second.join().expect("a value"), leader);
    });
}

/// What this process has open, but for the list itself.
fn open() -> Vec<String> {
    let list = fs::read_dir("/proc/self/fd").expect("/proc is there");
    let targets = list.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let targets = targets.map(|target| target.display().to_string());
    targets.filter(|target| !target.ends_with("/fd")).collect()
}

#[test]
fn process_inherits_what_is_listed_and_nothing_else() {
    fn use_them(count: usize) -> (String, Vec<String>, bool) {
        let before = open();
        let file = File::from(inherited(0).expect("it was given"));
        let mut writer = File::from(inherited(1).expect("it was given"));
        writer.write_all(b"written there").expect("it is open");
        let text = read_to_string(file).expect("it is open");
        (
            text,
            before,
            inherited(0).is_none() && inherited(count).is_none(),
        )
    }
    each(|builder| {
        let file = || File::open("/proc/self/comm").expect("it is there");
        let without = builder
            .spawn(open, ())
            .expect("it starts")
            .join()
            .expect("a value");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let many = builder.clone().inherit(file()).inherit(writer);
        let mut process = many.spawn(use_them, (2,)).expect("it starts");
        let (text, open, are_gone) = process.join().expect("a value");
        assert!(text.len() > 1 && are_gone, "{text:?}");
        assert_eq!(open.len(), without.len() + 2, "{open:?}");
        drop(many);
        assert_eq!(
            read_to_string(reader).expect("until the end"),
            "written there"
        );
        let most = (0..31).fold(builder.clone(), |builder, _| builder.inherit(file()));
        assert!(
            most.spawn(|| inherited(30).is_some(), ())
                .expect("it starts")
                .join()
                .expect("a value")
        );
        let refused = most.inherit(file()).spawn(|| (), ());
        assert!(
            matches!(refused, Err(SpawnError::Setup { .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn initializer_that_fails_fails_the_spawn() {
    each(|builder| {
        let refused = builder
            .clone()
            .initializer(|| panic!("no table"))
            .spawn(|| (), ());
        let Err(SpawnError::Died(Exit::Panicked(panic))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(panic.message, "no table");
        let refused = builder
            .clone()
            .initializer(|| std::process::exit(5))
            .spawn(|| (), ());
        assert!(
            matches!(refused, Err(SpawnError::Died(Exit::Exited(5)))),
            "{refused:?}"
        );
        let spawns = || {
            assert!(matches!(
                Process::spawn(|| (), ()),
                Err(SpawnError::InsideStartingChild)
            ))
        };
        let mut process = builder
            .initializer(spawns)
            .spawn(|| 7, ())
            .expect("it starts");
        assert_eq!(process.join().expect("a value"), 7);
    });
}

#[test]
fn name_is_that_of_the_process_in_the_systems_lists() {
    each(|builder| {
        let gate = Shared::new(Event::new()).expect("space");
        let wait = |gate: Shared<Event>| gate.wait();
        let mut process = builder
            .name("mh-thumbnails-7")
            .spawn(wait, (gate.clone(),))
            .expect("it starts");
        let comm = fs::read_to_string(format!("/proc/{}/comm", process.id())).expect("it runs");
        assert_eq!(comm, "mh-thumbnails-7\n");
        gate.set();
        process.join().expect("a value");
    });
}
