//! What can be called. That it is here makes all the others be built, not only checked.
use manyhands_process::{Process, task};

fn double(x: i32) -> i32 {
    2 * x
}

fn main() {
    let factor = 3;
    let text = String::from("borrowed");
    assert_eq!(Process::spawn(double, (21,)).unwrap().join().unwrap(), 42);
    let length = Process::spawn(|text: &str| text.len(), (text.as_str(),));
    assert_eq!(length.unwrap().join().unwrap(), 8);
    let scale = task!([factor] |x: i32| x * factor);
    assert_eq!(Process::spawn(scale, (14,)).unwrap().join().unwrap(), 42);
}
