//! The bytes of a ring or a queue in a model: cells that loom watches for races.

use loom::cell::UnsafeCell;

/// One cell for each 8 bytes.
#[derive(Debug)]
pub(crate) struct Cells(Vec<UnsafeCell<[u8; 8]>>);

impl Cells {
    pub(crate) fn new(bytes: u64) -> Self {
        Self((0..bytes / 8).map(|_| UnsafeCell::new([0; 8])).collect())
    }

    fn cell(&self, offset: u64) -> &UnsafeCell<[u8; 8]> {
        assert_eq!(offset % 8, 0, "the models use whole cells");
        &self.0[(offset / 8) as usize]
    }

    #[allow(unsafe_code, reason = "loom's cells are how it finds races")]
    fn set(&self, offset: u64, bytes: [u8; 8]) {
        self.cell(offset).with_mut(|place| {
            // SAFETY: loom checks that no other thread is at this cell.
            unsafe { *place = bytes }
        });
    }

    #[allow(unsafe_code, reason = "loom's cells are how it finds races")]
    pub(crate) fn read(&self, offset: u64) -> [u8; 8] {
        self.cell(offset).with(|place| {
            // SAFETY: loom checks that no other thread writes this cell.
            unsafe { *place }
        })
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        for (index, part) in bytes.chunks_exact(8).enumerate() {
            self.set(offset + 8 * index as u64, part.try_into().expect("8 bytes"));
        }
    }

    pub(crate) fn append(&self, offset: u64, length: u64, into: &mut Vec<u8>) {
        for index in 0..length / 8 {
            into.extend(self.read(offset + 8 * index));
        }
    }
}
