//! Limits in a program that uses the default allocator, which does not count.

use manyhands_process::{Exit, Limits, Process, StartMethod};

fn allocates(bytes: usize) -> u8 {
    std::hint::black_box(vec![1_u8; bytes])[bytes / 2]
}

#[test]
fn allocation_above_the_memory_limit_is_told_without_its_size() {
    for method in [StartMethod::Exec, StartMethod::Zygote] {
        let limits = Limits {
            memory: Some(64 << 20),
            core: Some(0),
            ..Limits::default()
        };
        let builder = Process::builder().start_method(method).limits(limits);
        let mut process = builder.spawn(allocates, (1 << 30,)).expect("it starts");
        let error = process.join().expect_err("it is too much");
        let expected = Exit::MemoryLimit {
            asked: None,
            allowed: 64 << 20,
        };
        assert_eq!(error.exit(), Some(&expected));
        let mut modest = builder.spawn(allocates, (16 << 20,)).expect("it starts");
        assert_eq!(modest.join().expect("it fits"), 1);
    }
}
