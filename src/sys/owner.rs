//! Identifiers of the owner of a lock: a thread of a process, and the process image.
//!
//! Nothing in this file calls the system, so the models compile it too.

use core::num::NonZeroU64;

/// A thread, its process and its PID namespace, in one word.
///
/// Bits 42 to 63 hold the process id, and bits 20 to 41 the thread id (the kernel's `PID_MAX_LIMIT`
/// is 2^22). Bits 0 to 19 hold the low bits of the namespace's inode number. The kernel numbers
/// namespaces upwards from one start, so their low bits differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerId(NonZeroU64);

const ID: u64 = 0x3f_ffff;
const NAMESPACE: u64 = 0xf_ffff;

impl OwnerId {
    /// A placeholder for a thread whose ids are not known yet. Its process id is 0, and no process
    /// has that id.
    #[allow(dead_code, reason = "the models know the ids from the start")]
    pub(crate) const UNSET: Self = OwnerId(NonZeroU64::MIN);

    /// Creates the id of a thread. `pid` is never 0, so the word is not 0 either.
    pub(crate) fn new(pid: u32, tid: u32, namespace: u32) -> Self {
        let bits = (u64::from(pid) & ID) << 42
            | (u64::from(tid) & ID) << 20
            | u64::from(namespace) & NAMESPACE;
        OwnerId(NonZeroU64::new(bits).expect("the kernel assigns no process the id 0"))
    }

    /// Decodes a word that holds an id, or 0 for no owner.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(OwnerId)
    }

    /// Returns the word, which is never 0.
    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// Returns the process id, in the PID namespace of the owner.
    pub(crate) fn pid(self) -> u32 {
        (self.to_bits() >> 42) as u32
    }

    /// Returns the thread id, in the PID namespace of the owner.
    pub(crate) fn tid(self) -> u32 {
        (self.to_bits() >> 20 & ID) as u32
    }

    /// Returns the low bits of the PID namespace's inode number, or 0 if it is not known.
    pub(crate) fn namespace(self) -> u32 {
        (self.to_bits() & NAMESPACE) as u32
    }
}

/// Identifies a process image: the program that a process runs, and the process among all that had
/// the same id.
///
/// The upper 40 bits hold the start time of the process. It distinguishes the process from a later
/// one with the same id. The lower 24 bits are a hash of the address of the start of its stack.
/// `exec` places the stack at random, so the hash distinguishes the process image from the previous
/// one. 0 means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageId(pub(crate) u64);

impl ImageId {
    /// An image that could not be read.
    pub(crate) const UNKNOWN: Self = ImageId(0);
    const STACK: u64 = 0xff_ffff;

    /// Returns whether the two have the same start time.
    #[allow(dead_code, reason = "the models have no start times")]
    pub(crate) fn has_start_of(self, other: Self) -> bool {
        self.0 >> 24 == other.0 >> 24
    }

    /// Returns whether the two have the same stack, and it is known.
    #[allow(dead_code, reason = "the models have no stacks")]
    pub(crate) fn has_stack_of(self, other: Self) -> bool {
        let (ours, theirs) = (self.0 & Self::STACK, other.0 & Self::STACK);
        ours != 0 && ours == theirs
    }

    /// Returns whether the two may be the same process image. The kernel hides the stack of another
    /// user's process, and of a process whose memory is gone.
    pub(crate) fn may_be(self, other: Self) -> bool {
        if self == Self::UNKNOWN || other == Self::UNKNOWN {
            return true;
        }
        let (ours, theirs) = (self.0 & Self::STACK, other.0 & Self::STACK);
        self.0 >> 24 == other.0 >> 24 && (ours == theirs || ours == 0 || theirs == 0)
    }
}

/// The owner of a lock, as its owner record identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pub(crate) id: OwnerId,
    pub(crate) image: ImageId,
}

impl Owner {
    /// Returns whether the two are recorded as threads of one process image.
    pub(crate) fn is_same_process(self, other: Self) -> bool {
        self.id.pid() == other.id.pid()
            && self.id.namespace() == other.id.namespace()
            && self.image == other.image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_id_returns_the_ids_that_it_was_made_of() {
        for (pid, tid, namespace) in [((1 << 22) - 1, 1, 0xf_fffe), (1, (1 << 22) - 1, 1)] {
            let id = OwnerId::new(pid, tid, namespace);
            assert_eq!((id.pid(), id.tid(), id.namespace()), (pid, tid, namespace));
            assert_eq!(OwnerId::from_bits(id.to_bits()), Some(id));
        }
        assert_eq!(OwnerId::from_bits(0), None);
    }

    #[test]
    fn an_unknown_image_may_be_any_image() {
        let known = ImageId(7 << 24 | 5);
        assert!(known.may_be(ImageId::UNKNOWN) && ImageId::UNKNOWN.may_be(known));
        assert!(known.may_be(ImageId(7 << 24)), "a hidden stack");
        assert!(!known.may_be(ImageId(7 << 24 | 6)), "another program");
        assert!(!known.may_be(ImageId(8 << 24 | 5)), "another process");
    }
}
