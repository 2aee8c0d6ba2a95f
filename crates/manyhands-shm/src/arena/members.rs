//! The arena's participants as the members that `manyhands-sync` asks for.

use manyhands_os::process::Identity;
use manyhands_sync::deadlock::Graph;
use manyhands_sync::life::LifeWord;
use manyhands_sync::member::{Member, Members, SLOTS};

use super::layout::SEATS;
use super::{Arena, Participant};

const _: () = assert!(SEATS as usize == SLOTS);

impl Members for Arena {
    fn me(&self) -> Option<Member> {
        Member::new(self.me.slot(), self.me.generation())
    }

    fn life(&self, member: Member) -> Option<&'static LifeWord> {
        Arena::life(self, participant(member))
    }

    fn identity(&self, member: Member) -> Option<Identity> {
        Arena::identity(self, participant(member))
    }

    fn graph(&self) -> Option<Graph> {
        self.memory.graph()
    }
}

fn participant(member: Member) -> Participant {
    Participant::new(member.slot(), member.generation())
}
