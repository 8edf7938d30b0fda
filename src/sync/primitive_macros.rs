//! The trait implementations of primitives that have no owner.

/// Implements the traits of a placeable primitive that consists of atomics. The primitive needs no
/// initialization at its address, no process holds it, and there is nothing to reset after a death.
///
/// The type must be `repr(C)` or `repr(transparent)` over atomics that refer to no process, and
/// zero bytes must be its initial state. `has_primitives` says whether a reset must visit it.
macro_rules! impl_ownerless_primitive {
    ($type:ty, $kind:literal, has_primitives: $has_primitives:literal) => {
        // SAFETY: the type consists of atomics in a fixed layout, which is described completely by
        // their size. They refer to no process, and zero bytes are the initial state.
        #[diagnostic::do_not_recommend]
        unsafe impl crate::memory::ShmSafe for $type {
            const ZERO_IS_VALID: bool = true;
            const HAS_PRIMITIVES: bool = $has_primitives;

            fn describe(layout: &mut crate::memory::Layout) {
                layout.primitive::<Self>(crate::memory::PrimitiveKind($kind));
            }

            fn visit(&self, visitor: &mut crate::memory::PrimitiveVisitor<'_>) {
                visitor.primitive(self);
            }
        }

        impl crate::memory::Primitive for $type {
            fn kind(&self) -> crate::memory::PrimitiveKind {
                crate::memory::PrimitiveKind($kind)
            }

            unsafe fn init(&self) -> Result<(), crate::Error> {
                Ok(())
            }

            fn is_held_by_this_process(&self) -> bool {
                false
            }

            unsafe fn reset(&self) {}
        }

        static_assertions::assert_impl_all!($type: Send, Sync, crate::ShmSafe);
        static_assertions::assert_not_impl_any!($type: crate::ShmData);
    };
}
pub(super) use impl_ownerless_primitive;
