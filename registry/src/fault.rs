//! Faults that a test can build in, to prove that it would notice them.

/// One way to get the registry wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(any(test, feature = "deliberate-faults")),
    allow(dead_code, unreachable_pub, reason = "named by the code they spoil")
)]
#[non_exhaustive]
pub enum Fault {
    /// A removal deletes only the very version that its owner removed.
    RemovalByDot,
    /// A delta is applied though versions before it are missing.
    GapsAccepted,
    /// A piece of a transfer counts as the whole of it.
    ContextAheadOfContent,
    /// A delta whose removals are forgotten passes for a complete one.
    NoSeal,
    /// A Seal is taken though entries that it lists are missing.
    SealIgnoresMissing,
    /// A node's older life replaces its newer one.
    LowerEpochsAccepted,
    /// Data of an unknown node makes it a member.
    DataCreatesMembers,
    /// A node that came back with a clock set back is not told.
    NoStaleEpoch,
    /// Hardly any forgotten node is remembered.
    TooFewGraves,
    /// A node that came back is shown as it was, not as it is.
    ShownBeforeSynced,
}

#[cfg(any(test, feature = "deliberate-faults"))]
impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RemovalByDot,
        Self::GapsAccepted,
        Self::ContextAheadOfContent,
        Self::NoSeal,
        Self::SealIgnoresMissing,
        Self::LowerEpochsAccepted,
        Self::DataCreatesMembers,
        Self::NoStaleEpoch,
        Self::TooFewGraves,
        Self::ShownBeforeSynced,
    ];

    /// Builds this fault into all that the thread does until the returned guard is dropped.
    #[must_use = "the fault is gone with the guard"]
    pub fn build_in(self) -> BuiltIn {
        switch::set(Some(self));
        BuiltIn(())
    }
}

/// Keeps a [`Fault`] built in.
#[cfg(any(test, feature = "deliberate-faults"))]
#[derive(Debug)]
pub struct BuiltIn(());

#[cfg(any(test, feature = "deliberate-faults"))]
impl Drop for BuiltIn {
    fn drop(&mut self) {
        switch::set(None);
    }
}

#[cfg(any(test, feature = "deliberate-faults"))]
pub(crate) use switch::{is_built_in, removed_version, was_removed};

/// Always false without the switch, so that nothing of the faults is left in a real build.
#[cfg(not(any(test, feature = "deliberate-faults")))]
#[inline(always)]
pub(crate) const fn is_built_in(_: Fault) -> bool {
    false
}

#[cfg(any(test, feature = "deliberate-faults"))]
mod switch {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::Fault;
    use crate::{ServiceKey, Version};

    pub(super) fn set(fault: Option<Fault>) {
        BUILT_IN.set(fault);
        REMOVED.with_borrow_mut(BTreeMap::clear);
    }

    pub(crate) fn is_built_in(fault: Fault) -> bool {
        BUILT_IN.get() == Some(fault)
    }

    /// Notes which version a removal removed, which a right removal does not say.
    pub(crate) fn was_removed(key: &ServiceKey, removal: Version, removed: Version) {
        if is_built_in(Fault::RemovalByDot) {
            REMOVED.with_borrow_mut(|map| map.insert((key.clone(), removal), removed));
        }
    }

    pub(crate) fn removed_version(key: &ServiceKey, removal: Version) -> Option<Version> {
        REMOVED.with_borrow(|map| map.get(&(key.clone(), removal)).copied())
    }

    thread_local! {
        static BUILT_IN: Cell<Option<Fault>> = const { Cell::new(None) };
        static REMOVED: RefCell<BTreeMap<(ServiceKey, Version), Version>> = const { RefCell::new(BTreeMap::new()) };
    }
}
