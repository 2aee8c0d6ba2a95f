//! Packing and unpacking of the words.

use super::*;

#[test]
fn block_word_keeps_generation_when_its_state_changes() {
    let who = Who::new(511, 0x1234_5678);
    let word = BlockWord::from_bits(0xdead_beef_0000_0000);
    for state in [
        BlockState::Free,
        BlockState::Owned,
        BlockState::Inbox,
        BlockState::Shared,
        BlockState::Single,
        BlockState::Deposited,
    ] {
        let changed = word.with(state, who);
        assert_eq!(changed.generation(), 0xdead_beef);
        assert_eq!(changed.who(), who);
        assert_eq!(changed.state(), state);
        let holding = changed.holding();
        assert!(!changed.is_holding() && holding.is_holding());
        assert_eq!((holding.state(), holding.who()), (state, who));
        assert!(holding.with(BlockState::Owned, Who::NOBODY).is_holding());
        assert!(!holding.freed().is_holding());
    }
}

#[test]
fn freed_block_word_names_nobody_and_the_next_generation() {
    let word = BlockWord::from_bits(0)
        .with(BlockState::Owned, Who::new(3, 9))
        .freed();
    assert_eq!(word.to_bits(), 1 << 32);
    // A block of generation 0 was never written into, so that number does not come again.
    assert_eq!(BlockWord::from_bits(u64::MAX).freed().to_bits(), 1 << 32);
    assert_eq!(
        BlockWord::from_bits(u64::MAX).renewed().to_bits(),
        1 << 32 | 0xffff_ffff
    );
}

#[test]
fn zeroed_words_are_free() {
    assert_eq!(BlockWord::from_bits(0).state(), BlockState::Free);
    assert_eq!(SeatWord::from_bits(0).state(), SeatState::Free);
}

#[test]
fn who_tells_128_successive_incarnations_apart() {
    let who = Who::new(17, 1000);
    assert_eq!(who.slot(), 17);
    assert!(who.is_incarnation(1000));
    for later in 1001..1128 {
        assert!(!who.is_incarnation(later));
    }
}

#[test]
fn seat_word_skips_generation_zero() {
    let last = SeatWord::new(u32::MAX, Who::NOBODY, SeatState::Free);
    let next = last.reserved_next(Who::new(1, 1));
    assert_eq!(next.generation(), 1);
    assert_eq!(next.state(), SeatState::Reserved);
    assert_eq!(next.parent(), Who::new(1, 1));
    assert_eq!(next.with(SeatState::Taken).state(), SeatState::Taken);
}
