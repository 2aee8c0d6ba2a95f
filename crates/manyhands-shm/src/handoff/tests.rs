//! Values that cross, and what is in them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use serde::Serializer;

use super::*;
use crate::arena::Arena;
use crate::arena::tests::{in_use, member, root};
use crate::{Region, Shared};

thread_local! {
    /// Lets a test receive as another participant than the process is.
    pub(super) static ARENA: Cell<Option<&'static Arena>> = const { Cell::new(None) };
}

/// Unpacks as a member of a family would.
pub(crate) fn unpack_as<T: DeserializeOwned>(
    arena: &'static Arena,
    bytes: &[u8],
) -> Result<T, UnpackError> {
    ARENA.set(Some(arena));
    let outcome = unpack(bytes);
    ARENA.set(None);
    outcome
}

#[test]
fn region_in_a_parcel_outlives_its_sender() {
    let arena = root(1 << 20);
    let receiver = member(arena);
    let region = Region::new_in(arena, 1000).expect("room");
    let handle = region.handle();
    let parcel = pack(&("before", region, 7_u8)).expect("packable");
    assert_eq!(parcel.holds.len(), 1);
    // The sender's own region is gone; the parcel holds it.
    assert_eq!(in_use(arena), (0, 0, 1));
    let (text, theirs, number): (String, Region, u8) =
        unpack_as(receiver, &parcel.bytes).expect("alive");
    assert_eq!((text.as_str(), number), ("before", 7));
    assert_eq!((theirs.handle(), theirs.len()), (handle, 1000));
    drop(parcel);
    assert_eq!(in_use(arena), (0, 0, 1));
    drop(theirs);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn parcel_whose_holds_were_dropped_too_early_is_refused() {
    let arena = root(1 << 20);
    let parcel = pack(&Region::new_in(arena, 64).expect("room")).expect("packable");
    drop(parcel.holds);
    // The block is in use again, by something else.
    let _other = Region::new_in(arena, 64).expect("room");
    let error = unpack_as::<Region>(arena, &parcel.bytes).expect_err("it is gone");
    assert!(error.to_string().contains("freed"), "{error}");
}

#[test]
fn parcel_can_be_unpacked_by_several_and_again() {
    let arena = root(1 << 20);
    let receivers = [member(arena), member(arena)];
    let parcel = pack(&[Region::new_in(arena, 64).expect("room")]).expect("packable");
    let all: Vec<[Region; 1]> = (0..6)
        .map(|turn| unpack_as(receivers[turn % 2], &parcel.bytes).expect("alive"))
        .collect();
    drop(parcel);
    assert_eq!(in_use(arena), (0, 0, 1));
    drop(all);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn half_unpacked_parcel_leaves_no_hold() {
    let arena = root(1 << 20);
    let receiver = member(arena);
    let region = Region::new_in(arena, 64).expect("room");
    let parcel = pack(&(region, 300_u32)).expect("packable");
    let short = &parcel.bytes[..parcel.bytes.len() - 1];
    assert!(unpack_as::<(Region, u32)>(receiver, short).is_err());
    assert_eq!(receiver.stats().holders[1].shared, 0);
    drop(parcel.holds);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn shared_value_cannot_be_unpacked_as_something_else() {
    let arena = root(1 << 20);
    let value = Shared::new_in(arena, AtomicU64::new(5)).expect("room");
    let parcel = pack(&value).expect("packable");
    assert!(unpack_as::<Shared<u64>>(arena, &parcel.bytes).is_err());
    assert!(unpack_as::<Region>(arena, &parcel.bytes).is_err());
    let same: Shared<AtomicU64> = unpack_as(arena, &parcel.bytes).expect("the same type");
    assert!(Shared::ptr_eq(&same, &value));
    let region = pack(&Region::new_in(arena, 64).expect("room")).expect("packable");
    assert!(unpack_as::<Shared<AtomicU64>>(arena, &region.bytes).is_err());
}

#[test]
fn handles_are_refused_outside_of_parcels() {
    let arena = root(1 << 20);
    let region = Region::new_in(arena, 64).expect("room");
    assert!(postcard::to_allocvec(&region).is_err());
    let parcel = pack(&region).expect("packable");
    assert!(postcard::from_bytes::<Region>(&parcel.bytes).is_err());
    assert_eq!(hold(5), Err(OutsideParcel));
    assert!(!is_unpacking());
}

#[test]
fn number_that_is_no_handle_is_refused() {
    let arena = root(1 << 20);
    for number in [0_u64, 1, 256, u64::MAX] {
        let bytes = pack(&number).expect("packable").bytes;
        assert!(unpack_as::<Region>(arena, &bytes).is_err());
        assert!(unpack_as::<Shared<u8>>(arena, &bytes).is_err());
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    let mut bytes = pack(&1_u8).expect("packable").bytes;
    bytes.extend([0, 0]);
    let error = unpack::<u8>(&bytes).expect_err("two too many");
    assert!(matches!(error, UnpackError::TrailingBytes { count: 2 }));
}

/// Refuses to be serialized, after it has packed something of its own.
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        let inner = pack(&"inner").expect("packable");
        assert!(inner.holds.is_empty());
        refuse("it is stubborn".into());
        Err(serde::ser::Error::custom("lost"))
    }
}

#[test]
fn refused_value_leaves_the_bytes_as_they_were_and_says_why() {
    let arena = root(1 << 20);
    let region = Region::new_in(arena, 64).expect("room");
    let mut bytes = vec![1, 2, 3];
    let error = pack_into(&(region, Stubborn), &mut bytes).expect_err("it refuses");
    assert!(error.to_string().contains("stubborn"), "{error}");
    assert_eq!(bytes, [1, 2, 3]);
    assert_eq!(in_use(arena), (0, 0, 0));
    let holds = pack_into(&9_u8, &mut bytes).expect("packable");
    assert!(holds.is_empty());
    assert_eq!(bytes, [1, 2, 3, 9]);
}

/// Packs two parcels of its own, one with a handle and one without, between two handles.
struct Nesting(Region);

impl Serialize for Nesting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.0)?;
        let with = pack(&(&self.0, &self.0)).expect("packable");
        let without = pack(&1_u8).expect("packable");
        assert_eq!((with.holds.len(), without.holds.len()), (2, 0));
        tuple.serialize_element(&self.0)?;
        tuple.end()
    }
}

#[test]
fn parcel_inside_of_another_keeps_what_is_its_own() {
    let arena = root(1 << 20);
    let region = Region::new_in(arena, 64).expect("room");
    let parcel = pack(&(Nesting(region.clone()), &region)).expect("packable");
    assert_eq!(parcel.holds.len(), 3);
    // First no holds, then the inner ones.
    let outer = pack(&(0_u8, Nesting(region.clone()))).expect("packable");
    assert_eq!(outer.holds.len(), 2);
    drop((parcel, outer, region));
    assert_eq!(in_use(arena), (0, 0, 0));
}

/// Panics while it is serialized.
struct Panicking;

impl Serialize for Panicking {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("in the middle of a parcel")
    }
}

#[test]
fn panic_while_packing_leaves_no_open_parcel() {
    let kept = Arc::new(());
    /// Keeps a value and then panics.
    struct Keeping(Arc<()>);
    impl Serialize for Keeping {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            hold(self.0.clone()).expect("inside of a parcel");
            Panicking.serialize(serializer)
        }
    }
    let value = Keeping(kept.clone());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pack(&value)));
    assert!(outcome.is_err());
    drop(value);
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(hold(5), Err(OutsideParcel));
}

#[test]
fn holds_can_be_gathered_and_sent_to_another_thread() {
    let kept = Arc::new(());
    struct Kept(Arc<()>);
    impl Serialize for Kept {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            hold(self.0.clone()).map_err(serde::ser::Error::custom)?;
            serializer.serialize_unit()
        }
    }
    let mut holds = Holds::default();
    for _ in 0..3 {
        holds.extend(pack(&Kept(kept.clone())).expect("packable").holds);
    }
    assert_eq!(holds.len(), 3);
    assert_eq!(Arc::strong_count(&kept), 4);
    std::thread::spawn(move || drop(holds))
        .join()
        .expect("no panic");
    assert_eq!(Arc::strong_count(&kept), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_come_back_as_they_were(value: (u64, String, Vec<Option<(i32, bool)>>)) {
        let parcel = pack(&value).expect("packable");
        let back: (u64, String, Vec<Option<(i32, bool)>>) = unpack(&parcel.bytes).expect("whole");
        prop_assert_eq!(&back, &value);
        for end in 0..parcel.bytes.len() {
            let cut = unpack::<(u64, String, Vec<Option<(i32, bool)>>)>(&parcel.bytes[..end]);
            prop_assert!(cut.is_err());
        }
    }

    #[test]
    fn bytes_from_nowhere_never_panic(bytes: Vec<u8>) {
        ARENA.set(Some(family().expect("an arena")));
        let _ = unpack::<(Region, Shared<AtomicU64>, Vec<Region>)>(&bytes);
        ARENA.set(None);
    }
}
