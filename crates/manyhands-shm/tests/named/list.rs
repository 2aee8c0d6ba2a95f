//! `ShareableList` among ourselves; with Python: `python`.

use manyhands_shm::named::{
    Item, ItemError, ListCreateError, ListOpenError, ShareableList, SharedMemory,
};

use crate::children::{Actor, to_hex};
use crate::name;

fn mixed(name: &str) -> ShareableList {
    let items = [
        Item::from("howdy"),
        (&b"HoWdY"[..]).into(),
        (-273.154).into(),
        100.into(),
        ().into(),
        true.into(),
        42.into(),
    ];
    ShareableList::create(name, items).expect("room")
}

#[test]
fn values_are_read_by_whoever_opens_it() {
    let name = name("list");
    let list = mixed(&name);
    let same = ShareableList::open(&name).expect("it is there");
    assert_eq!((same.len(), same.is_empty()), (7, false));
    assert_eq!(same.format().expect("formats"), "8s8sdqxxxxxx?xxxxxxxx?q");
    let items: Result<Vec<Item>, ItemError> = same.iter().collect();
    let items = items.expect("values");
    assert_eq!(items[0], Item::Str("howdy".into()));
    assert_eq!(items[4], Item::None);
    assert_eq!(list.get(7), Err(ItemError::OutOfRange { index: 7, len: 7 }));
    assert_eq!(list.count(42).expect("values"), 1);
    assert_eq!(list.index(100).expect("values"), Some(3));
    assert_eq!(list.index(101).expect("values"), None);
    list.memory().unlink().expect("it has its name");
}

#[test]
fn shm_19_set_may_change_the_type_and_too_long_a_text_changes_nothing() {
    let name = name("shm19");
    let list = mixed(&name);
    list.set(3, "42").expect("it fits");
    assert_eq!(list.get(3), Ok(Item::from("42")));
    list.set(4, "some").expect("it fits");
    list.set(4, ()).expect("it fits");
    assert_eq!(list.get(4), Ok(Item::None));
    list.set(0, 1.5).expect("it fits");
    assert_eq!(list.get(0), Ok(Item::Float(1.5)));
    list.set(0, false).expect("it fits");
    assert_eq!(list.get(0), Ok(Item::Bool(false)));
    let before = list.memory().to_vec();
    let too_long = list.set(0, "123456789").expect_err("9 bytes");
    assert_eq!(
        too_long,
        ItemError::TooLong {
            index: 0,
            len: 9,
            size: 8
        }
    );
    assert!(list.set(5, vec![1; 100]).is_err() && list.set(7, 1).is_err());
    assert_eq!(list.memory().to_vec(), before);
    // Eight bytes of UTF-8 in eight.
    list.set(0, "\u{e4}\u{f6}\u{fc}\u{df}")
        .expect("it fits exactly");
    assert_eq!(list.get(0), Ok(Item::from("\u{e4}\u{f6}\u{fc}\u{df}")));
    assert_eq!(list.get(1), Ok(Item::from(b"HoWdY")), "the neighbor");
    list.memory().unlink().expect("it has its name");
}

#[test]
fn shm_23_handle_is_small_and_opens_the_same_memory() {
    let list = ShareableList::create_unnamed(0..1000).expect("room");
    let handle = to_hex(&list);
    assert!(handle.len() < 100);
    let mut child = Actor::start();
    assert_eq!(child.ask(&format!("list-by-handle {handle} child")), "1000");
    assert_eq!(list.get(0), Ok(Item::from("child")));
    let bytes = postcard::to_allocvec(&list).expect("encodable");
    list.memory().unlink().expect("it has its name");
    assert!(
        postcard::from_bytes::<ShareableList>(&bytes).is_err(),
        "the name is gone"
    );
}

#[test]
fn empty_list_is_a_list_and_what_is_none_is_refused() {
    let name = name("none");
    let none: [Item; 0] = [];
    let list = ShareableList::create(&name, none).expect("room");
    assert!(ShareableList::open(&name).expect("a list").is_empty());
    list.memory().unlink().expect("it has its name");
    let memory = SharedMemory::create(&name, 100).expect("room");
    // A negative count, a count for which there is no room, offsets that lead outside or go down.
    for numbers in [
        &[-1][..],
        &[5, 0],
        &[i64::MAX, 0],
        &[1, 0, 1000],
        &[2, 0, 16, 8],
        &[1, 8, 16],
    ] {
        memory.write_at(0, &[0; 100]).expect("inside");
        for (index, number) in numbers.iter().enumerate() {
            memory
                .write_at(8 * index, &number.to_ne_bytes())
                .expect("inside");
        }
        let refused = ShareableList::open(&name).expect_err("no list");
        assert!(
            matches!(refused, ListOpenError::NotAList { .. }),
            "{refused}"
        );
    }
    memory.unlink().expect("it has its name");
    let long = ShareableList::create(&name, ["x".repeat(10_000_000)]).expect_err("too long");
    assert!(
        matches!(long, ListCreateError::TooLong { index: 0, .. }),
        "{long}"
    );
}

#[test]
fn damaged_list_gives_errors_and_never_bytes_of_others() {
    let name = name("damaged-list");
    let list = mixed(&name);
    let whole = list.memory().to_vec();
    for at in 0..whole.len() {
        for value in [0, 1, b'9', 0x7f, 0xff] {
            list.memory().write_at(0, &whole).expect("inside");
            list.memory().write_at(at, &[value]).expect("inside");
            if let Ok(other) = ShareableList::open(&name) {
                for index in 0..other.len().min(10) {
                    let _ = (other.get(index), other.set(index, "x"), other.set(index, 1));
                }
            }
            let _ = (list.get(0), list.set(1, "y"), list.get(1));
        }
    }
    list.memory().unlink().expect("it has its name");
}
