//! Members of the same arena, put together.

use std::collections::BTreeMap;

use crate::process::Member;

/// The living members of one arena.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Family {
    /// The inode of the arena, by which the family is called.
    pub(crate) inode: u64,
    /// Bytes in the arena, if a member's descriptor told.
    pub(crate) used: Option<u64>,
    /// Members in the order of their pids.
    pub(crate) members: Vec<Member>,
}

impl Family {
    /// Bytes that the members have for themselves, together.
    pub(crate) fn own(&self) -> u64 {
        self.members.iter().map(|member| member.own).sum()
    }
}

/// Puts members of the same arena together; in the order of their arenas.
pub(crate) fn group(members: Vec<Member>) -> Vec<Family> {
    let mut families = BTreeMap::new();
    for member in members {
        let inode = member.arena.inode;
        let family = families.entry(inode).or_insert(Family {
            inode,
            used: None,
            members: Vec::new(),
        });
        family.used = family.used.or(member.arena.used);
        family.members.push(member);
    }
    families.into_values().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::process::Arena;

    pub(crate) fn member(pid: u32, inode: u64, used: Option<u64>) -> Member {
        let (name, state) = (format!("p{pid}"), "running".to_owned());
        let arena = Arena { inode, used };
        Member {
            pid,
            parent: 1,
            name,
            state,
            own: 1 << 20,
            shared: 512 << 10,
            arena,
        }
    }

    #[test]
    fn members_of_one_arena_are_one_family() {
        let seen = vec![
            member(10, 7, None),
            member(11, 5, None),
            member(12, 7, Some(4096)),
        ];
        let families = group(seen);
        let pids = |family: &Family| family.members.iter().map(|m| m.pid).collect::<Vec<_>>();
        assert_eq!(
            families.iter().map(pids).collect::<Vec<_>>(),
            [vec![11], vec![10, 12]]
        );
        assert_eq!(families[1].used, Some(4096));
        assert_eq!(families[1].own(), 2 << 20);
    }
}
