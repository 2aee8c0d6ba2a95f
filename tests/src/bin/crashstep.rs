//! Runs the sweeps: one line for each operation and scene, exit code 1 when one is not as expected.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing the table is its job"
)]

use std::process::ExitCode;

use manyhands_sync::raw::net;
use manyhands_sync::spin;
use manyhands_tests::step::report::Report;
use manyhands_tests::step::sweep::{self, Thoroughness};
use manyhands_tests::step::{Scene, Subject, pairs};
use manyhands_tests::{subjects, system};

const USAGE: &str = "\
usage: crashstep [OBJECT [OPERATION]] [--scenes LETTERS] [--stride N] [--pairs] [--long] [--list]

OBJECT is a name or else a part of names, OPERATION a part of names. --pairs sweeps pairs of deaths instead of single ones.
--long takes every boundary, also of what is sampled else and of pairs, and shows every hang of a control.";

struct Options {
    object: String,
    operation: String,
    scenes: String,
    is_pairs: bool,
    is_list: bool,
    thoroughness: Thoroughness,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
        let mut names = Vec::new();
        let mut options = Options {
            object: String::new(),
            operation: String::new(),
            scenes: "abcdefghi".to_owned(),
            is_pairs: false,
            is_list: false,
            thoroughness: Thoroughness {
                stride: 1,
                is_long: false,
            },
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--scenes" => options.scenes = arguments.next()?,
                "--stride" => {
                    options.thoroughness.stride = arguments
                        .next()?
                        .parse()
                        .ok()
                        .filter(|&stride| stride > 0)?;
                }
                "--pairs" => options.is_pairs = true,
                "--long" => options.thoroughness.is_long = true,
                "--list" => options.is_list = true,
                name if name.starts_with('-') => return None,
                _ => names.push(argument),
            }
        }
        let mut names = names.into_iter();
        options.object = names.next().unwrap_or_default();
        options.operation = names.next().unwrap_or_default();
        names.next().is_none().then_some(options)
    }

    /// What is swept: of an object of just this name, or of all that have it in theirs.
    fn subjects(&self) -> Vec<&'static dyn Subject> {
        let mut all = subjects::all();
        let is_whole = all.iter().any(|subject| subject.object() == self.object);
        all.retain(|subject| {
            let object = subject.object();
            let is_meant = match is_whole {
                true => object == self.object,
                false => object.contains(&self.object),
            };
            is_meant && subject.operation().contains(&self.operation)
        });
        all
    }

    fn scenes(&self, subject: &dyn Subject) -> Vec<Scene> {
        let offered = match self.is_pairs {
            true => subject.pair_scenes(),
            false => subject.scenes(),
        };
        offered
            .iter()
            .copied()
            .filter(|scene| self.scenes.contains(scene.letter()))
            .collect()
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // The victims inherit it; the survivors leave.
    system::stay_here();
    // A lost wake must show, and not be healed by the next look a second later.
    net::take_away();
    // Instructions are counted, and those of looking again would be most of them.
    spin::switch_off();
    println!("{}", Report::heading());
    let (mut sweeps, mut failures) = (0, 0);
    for subject in options.subjects() {
        for scene in options.scenes(subject) {
            if options.is_list {
                println!(
                    "{} / {} / {}",
                    subject.object(),
                    subject.operation(),
                    scene.letter()
                );
                continue;
            }
            let report = match options.is_pairs {
                true => pairs::run(subject, scene, options.thoroughness),
                false => sweep::run(subject, scene, options.thoroughness),
            };
            println!("{report}");
            sweeps += 1;
            failures += u32::from(!report.is_as_expected());
        }
    }
    if failures == 0 && (sweeps > 0 || options.is_list) {
        return ExitCode::SUCCESS;
    }
    println!("{failures} of {sweeps} sweeps are not as expected");
    ExitCode::FAILURE
}
