//! What keeps the values of a queue, and in which order it gives them.
//!
//! A comparison of two values may panic, and must leave the store as it was: so it first finds where
//! a value has to go, comparing and moving nothing, and then moves without comparing.

use std::fmt;

/// Keeps values, and gives them in its own order. There are two: [`Stack`] and [`Heap`].
pub trait Store: Default + sealed::Sealed {
    /// What is kept.
    type Value;

    /// Where a value has to go that comes now.
    fn place_for(&self, value: &Self::Value) -> usize;

    /// Keeps one value more, in its place.
    fn insert(&mut self, value: Self::Value, place: usize);

    /// Gives the first value in the store's order.
    fn pop(&mut self) -> Option<Self::Value>;

    /// How many values there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for super::Stack<T> {}
    impl<T> Sealed for super::Heap<T> {}
}

/// Gives the last value first.
pub struct Stack<T>(Vec<T>);

/// Gives the smallest value first, and equal ones in the order of their coming.
pub struct Heap<T> {
    /// Each is not behind the two at twice its place, plus one and plus two.
    entries: Vec<Entry<T>>,
    /// How many values ever came.
    came: u64,
}

struct Entry<T> {
    value: T,
    number: u64,
}

impl<T: Ord> Entry<T> {
    fn is_before(&self, other: &Self) -> bool {
        let order = self.value.cmp(&other.value);
        order.then(self.number.cmp(&other.number)).is_lt()
    }
}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            came: 0,
        }
    }
}

impl<T> fmt::Debug for Stack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stack").field(&self.0.len()).finish()
    }
}

impl<T> fmt::Debug for Heap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Heap").field(&self.entries.len()).finish()
    }
}

impl<T> Store for Stack<T> {
    type Value = T;

    fn place_for(&self, _: &T) -> usize {
        self.0.len()
    }

    fn insert(&mut self, value: T, place: usize) {
        self.0.insert(place, value);
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The place above a place; there is none above 0.
fn above(place: usize) -> usize {
    (place - 1) / 2
}

impl<T: Ord> Store for Heap<T> {
    type Value = T;

    fn place_for(&self, value: &T) -> usize {
        let mut place = self.entries.len();
        // Not before its equals: they came earlier.
        while place > 0 && *value < self.entries[above(place)].value {
            place = above(place);
        }
        place
    }

    fn insert(&mut self, value: T, place: usize) {
        let mut now = self.entries.len();
        let number = self.came;
        self.came += 1;
        self.entries.push(Entry { value, number });
        while now > place {
            self.entries.swap(now, above(now));
            now = above(now);
        }
    }

    fn pop(&mut self) -> Option<T> {
        let end = self.entries.len().checked_sub(1)?;
        let last = &self.entries[end];
        let mut place = 0;
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            if left >= end {
                break;
            }
            let right_is_first = right < end && self.entries[right].is_before(&self.entries[left]);
            let first = if right_is_first { right } else { left };
            if !self.entries[first].is_before(last) {
                break;
            }
            place = first;
        }
        // Nothing is compared from here on. The last one goes to its place, and what lies on the
        // way there from the top moves up by one.
        let entry = self.entries.swap_remove(0);
        while place > 0 {
            self.entries.swap(0, place);
            place = above(place);
        }
        Some(entry.value)
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// How many comparisons are left until one panics.
        static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    /// Compares by the first number only.
    #[derive(Clone, Debug)]
    struct Touchy(u8, u32);

    impl Ord for Touchy {
        fn cmp(&self, other: &Self) -> Ordering {
            let left = LEFT.get();
            assert!(left > 0, "on purpose");
            LEFT.set(left - 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Touchy {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Touchy {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Eq for Touchy {}

    /// What the heap should give next: the smallest, and of those the one that came first.
    fn first(model: &[Touchy]) -> Option<usize> {
        (0..model.len()).min_by_key(|place| (model[*place].0, model[*place].1))
    }

    proptest! {
        #[test]
        fn heap_gives_the_smallest_first_whatever_panics(
            steps in prop::collection::vec((0_u8..6, prop::option::of(0_u32..4)), 1..200),
        ) {
            let (mut heap, mut model) = (Heap::<Touchy>::default(), Vec::new());
            for (number, (kind, patience)) in steps.into_iter().enumerate() {
                LEFT.set(patience.unwrap_or(u32::MAX));
                // One in three takes; of the others the number is the value.
                let done = catch_unwind(AssertUnwindSafe(|| match kind {
                    0 | 1 => heap.pop().map(|value| value.1),
                    _ => {
                        let value = Touchy(kind, number as u32);
                        let place = heap.place_for(&value);
                        heap.insert(value, place);
                        None
                    }
                }));
                LEFT.set(u32::MAX);
                match done {
                    Ok(taken) if kind < 2 => {
                        let expected = first(&model).map(|place| model.remove(place).1);
                        prop_assert_eq!(taken, expected);
                    }
                    Ok(_) => model.push(Touchy(kind, number as u32)),
                    Err(_) => prop_assert!(patience.is_some()),
                }
                prop_assert_eq!(heap.len(), model.len());
            }
            while let Some(value) = heap.pop() {
                let expected = first(&model).map(|place| model.remove(place).1);
                prop_assert_eq!(Some(value.1), expected);
            }
            prop_assert!(model.is_empty());
        }
    }
}
