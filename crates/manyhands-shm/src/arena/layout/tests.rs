//! The numbers of arenas of all lengths.

use super::*;

#[test]
fn every_offered_length_has_room_for_its_classes() {
    for len in [
        1 << 20,
        4 << 20,
        64 << 20,
        1 << 30,
        4 << 30,
        16 << 30,
        64 << 30_u64,
    ] {
        let layout = Layout::of(len).expect("a sensible length");
        let mut end = TABLE_END;
        for (class, place) in layout
            .classes
            .iter()
            .enumerate()
            .filter(|(_, c)| c.capacity > 0)
        {
            assert!(place.entries >= end);
            let all = 0..place.capacity;
            assert!(layout.entry_pages(class, all.clone()).end <= place.holders);
            assert!(layout.holder_pages(class, all.clone()).end <= place.data);
            end = layout.data_pages(class, all).end;
        }
        assert!(end <= len);
    }
}

#[test]
fn largest_block_is_a_sixty_fourth_of_the_arena() {
    let layout = Layout::of(64 << 30).expect("64 GiB");
    assert_eq!(layout.classes[CLASSES - 1].capacity, 4);
    let layout = Layout::of(1 << 30).expect("1 GiB");
    let largest = layout.classes.iter().rposition(|place| place.capacity > 0);
    assert_eq!(class_size(largest.expect("some class")), 16 << 20);
}

#[test]
fn lengths_that_make_no_sense_have_no_layout() {
    for len in [0, 1, PAGE, (1 << 20) - PAGE, (1 << 20) + 1] {
        assert!(Layout::of(len).is_none());
    }
}

#[test]
fn class_is_the_smallest_that_fits() {
    assert_eq!(class_of(0), Some(0));
    assert_eq!(class_of(64), Some(0));
    assert_eq!(class_of(65), Some(1));
    assert_eq!(class_of(4096), Some(LAST_SMALL_CLASS));
    assert_eq!(class_of(1 << 30), Some(CLASSES - 1));
    assert_eq!(class_of((1 << 30) + 1), None);
    assert_eq!(class_of(usize::MAX), None);
}
